"""Tell what the user calls a data set by: a name, a folder, a file, a web address, or a Hub id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lort_hub.data.archives import is_archive, stem_of
from lort_hub.data.presets import PRESETS
from lort_hub.data.tables.encoded import TABLES
from lort_hub.data.tables.lists import LISTS
from lort_hub.errors import DatasetError, did_you_mean
from lort_hub.files import missing_path

EXPECTED = f"{', '.join(PRESETS)}, org/name on the Hub, or a folder or file that exists"


@dataclass(frozen=True)
class DatasetSpec:
    """What a data set's name says.

    Attributes:
        source: Where it is: "digits", a Hub id, or the path of a folder or file.
        name: Its short name.
        repo_id: Its Hub id, where it is on the Hub.
        revision: Branch, tag or commit that was asked for, or None.
        configuration: Name of the configuration that was asked for, or None.
        preset: Its name among `PRESETS`, or None.
    """

    source: str
    name: str
    repo_id: str | None = None
    revision: str | None = None
    configuration: str | None = None
    preset: str | None = None


def parse_spec(spec: str, argument: str = "dataset") -> DatasetSpec:
    """Tell what a data set's name says, without opening it.

    Args:
        spec: `digits`, a preset, `org/name[:configuration][@revision]`, its address on the Hub, or the path
            of a folder or file.
        argument: Name of the argument that it was given as, for messages.

    Raises:
        DatasetError: It is none of these.

    Example:
        >>> parse_spec("org/photos:small@main").configuration
        'small'
        >>> parse_spec("https://huggingface.co/datasets/org/photos").repo_id
        'org/photos'
    """
    if not spec.strip():
        raise DatasetError(f"The name of the data set is empty.\nExpected {EXPECTED}.")
    spec = spec.removeprefix("file://")
    path = local_path(spec)
    outer, _, configuration = spec.rpartition(":")
    if path.exists():
        return _local(path)
    if spec in PRESETS:
        return _preset(spec)
    if outer and local_path(outer).is_dir():
        return _local(local_path(outer), configuration)
    hub = _on_the_hub(spec)
    if hub is None and "://" in spec:
        raise DatasetError(
            f"'{spec}' is a web address, which is not downloaded.\n"
            "Download it and give the folder or file, or give org/name for a data set on the Hub."
        )
    parts = re.fullmatch(r"([\w.-]+/[\w.-]+?)(?::([^@]+))?(?:@(.+))?", hub or spec)
    if hub is None and (parts is None or spec.startswith((".", "/", "~"))):
        if "/" not in spec and not path.suffix:
            raise DatasetError(
                f"Unknown data set '{spec}'.{did_you_mean(spec, [*PRESETS, *_beside(path)])}\n"
                f"Expected {EXPECTED}."
            )
        raise DatasetError(missing_path(path, spec, argument))
    if parts is None:
        raise DatasetError(
            f"'{spec}' is no address of a data set on the Hub.\nExpected org/name or hf://datasets/org/name."
        )
    in_a_folder = hub is None and path.absolute().parent.is_dir()
    if in_a_folder and "Did you mean" in (missing := missing_path(path, spec, argument)):
        raise DatasetError(f"{missing}\nFor a data set on the Hub: hf://datasets/{spec}.")
    repo_id, configuration, revision = parts.groups()
    return DatasetSpec(repo_id, repo_id.rpartition("/")[2], repo_id, revision, configuration)


def local_path(name: str | Path) -> Path:
    """Read the name of a file or folder, which may be an address of it or begin with ~.

    Example:
        >>> local_path("file:///photos/train.txt")
        PosixPath('/photos/train.txt')
    """
    return Path(str(name).removeprefix("file://")).expanduser()


def _local(path: Path, configuration: str | None = None) -> DatasetSpec:
    path = path.resolve()
    if path.is_dir():
        return DatasetSpec(str(path), path.name, configuration=configuration)
    if path.suffix.lower() in (*LISTS, *TABLES):
        return DatasetSpec(str(path), path.parent.name)
    return DatasetSpec(str(path), stem_of(path) if is_archive(path) else path.stem)


def _preset(spec: str) -> DatasetSpec:
    repo_id = PRESETS[spec].repo_id
    if repo_id is None and spec != "digits":
        raise DatasetError(
            f"'{spec}' has no official copy on the Hub that lort_hub could point at.\n"
            f"`lort-hub prepare {spec}` makes it of your images and the published lists. Or give a list, "
            "with the folder of its images as `image_root`, or an image folder (train/CLASS/*.jpg)."
        )
    return DatasetSpec(repo_id or spec, (repo_id or spec).rpartition("/")[2], repo_id, preset=spec)


def _on_the_hub(spec: str) -> str | None:
    """The `org/name` of an address on the Hub, with its configuration and revision; None for other names."""
    address = re.match(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/datasets/(.+)", spec)
    address = address or re.match(r"(?:hf://)?datasets/(.+/.+)", spec)
    if address is None:
        return None
    name = address[1].split("?")[0].split("#")[0].rstrip("/")
    if viewer := re.fullmatch(r"([^/]+/[^/]+)/viewer/([^/]+)(?:/.*)?", name):
        return f"{viewer[1]}:{viewer[2]}"
    tree = re.fullmatch(r"([^/]+/[^/]+)/(?:tree|blob|resolve)/([^/]+)", name)
    return f"{tree[1]}@{tree[2]}" if tree else name


def _beside(path: Path) -> list[str]:
    return (
        [entry.name for entry in path.absolute().parent.iterdir()] if path.absolute().parent.is_dir() else []
    )


def script_error(spec: str, script: str) -> DatasetError:
    """Refuse a data set with a loading script, and say what to use instead.

    Example:
        >>> "refs/convert/parquet" in str(script_error("org/name", "name.py"))
        True
    """
    repo_id = spec if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", spec) else f"org/{script.removesuffix('.py')}"
    return DatasetError(
        f"'{spec}' is a data set with a loading script, {script}, which is not run.\n"
        f'The Hub keeps most of these as parquet: try `dataset="{repo_id}@refs/convert/parquet"`.\n'
        f"Where the files beside {script} are the data themselves, give a copy of the folder without it."
    )
