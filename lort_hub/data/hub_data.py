"""Open a data set of the Hub: download the files of one configuration, then read them as a local folder."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import PurePosixPath

from lort_hub.data.local_data import open_any
from lort_hub.data.request import Opened, Request
from lort_hub.data.spec import script_error
from lort_hub.data.tables.configurations import Configuration, choose_configuration, read_card
from lort_hub.download import download_dataset, list_dataset_files

NO_DATA = (".py", ".md", ".bin", ".pt", ".pth", ".ckpt", ".safetensors", ".onnx", ".pkl", ".gitattributes")


def open_hub(repo_id: str, revision: str | None, request: Request) -> tuple[Opened, str]:
    """Download a data set's configuration and open it.

    Args:
        repo_id: `org/name`.
        revision: Branch, tag or commit, or None.
        request: The arguments of `load_long_tailed`.

    Returns:
        Its rows, and the commit they are of.

    Raises:
        DatasetError: It has several configurations, a loading script, or no table or image.
        HubUnavailableError: The Hub is needed and does not answer.

    Example:
        >>> open_hub("uoft-cs/cifar10", None, Request("uoft-cs/cifar10"))  # doctest: +SKIP
        (Opened(splits={'train': Dataset(...), 'test': Dataset(...)}, notes=[]), '0b271...')
    """
    folder, commit = download_dataset(repo_id, revision, files=["README.md", ".gitattributes"])
    names = list_dataset_files(repo_id, folder)
    script = f"{repo_id.rpartition('/')[2]}.py"
    if script in names and not any(name.endswith(".parquet") for name in names):
        raise script_error(repo_id, script)
    configuration = choose_configuration(read_card(folder), names, request.configuration, request.spec)
    wanted = wanted_files(configuration, names)
    folder, commit = download_dataset(repo_id, commit, files=["README.md", *wanted])
    return open_any(folder, request), commit


def wanted_files(configuration: Configuration, names: Sequence[str]) -> list[str]:
    """Return patterns of the files that a configuration needs: its tables, or all its images.

    Args:
        configuration: The configuration.
        names: All files of the data set.

    Example:
        >>> wanted_files(Configuration("default"), ["README.md", "data/train-0.parquet", "x.bin"])
        ['data/train-0.parquet']
    """
    listed = configuration.files(names)
    wanted = [name for of in (listed or {}).values() for name in of]
    if not wanted:
        below = f"{configuration.folder}/" if configuration.folder else ""
        inside = [name for name in names if name.startswith(below)]
        wanted = [name for name in inside if name.endswith(".parquet")]
        wanted = wanted or [name for name in inside if not name.lower().endswith(NO_DATA)]
    if len(wanted) > 1000:
        return sorted({_of_its_kind(PurePosixPath(name)) for name in wanted})
    return [glob.escape(name) for name in wanted]


def _of_its_kind(file: PurePosixPath) -> str:
    """A pattern of the files of one type in a folder, which are fewer than files."""
    name = f"*{glob.escape(file.suffix)}" if file.suffix else glob.escape(file.name)
    return str(PurePosixPath(glob.escape(str(file.parent))) / name)
