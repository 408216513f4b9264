"""Choose one of the configurations that the README.md of a data set lists."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lort_hub.data.image_folder.names import TESTS, kind_of
from lort_hub.data.tables.splits import sets_of, split_of_file
from lort_hub.errors import DatasetError, did_you_mean

if TYPE_CHECKING:
    import datasets


def read_card(folder: Path) -> dict[str, Any]:
    """Read the YAML at the head of a data set's README.md; empty where there is none.

    Example:
        >>> read_card(Path("/nonexistent"))
        {}
    """
    import yaml

    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace").lstrip("\ufeff")
        head = text.split("\n---", 1)[0].removeprefix("---") if text.startswith("---") else ""
        card = yaml.safe_load(head)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):  # a stranger's card may be anything
        return {}
    return card if isinstance(card, dict) else {}


@dataclass(frozen=True)
class Configuration:
    """One of the tables of a data set.

    Attributes:
        name: Its name.
        folder: The folder that holds it, below the data set's; "" for all of it.
        patterns: Patterns of the files of each split; None where the split is in their names.
        features: Types of its columns as README.md tells them, or None.
    """

    name: str
    folder: str = ""
    patterns: dict[str, tuple[str, ...]] | None = None
    features: datasets.Features | None = None

    def files(self, names: Iterable[str]) -> dict[str, list[str]] | None:
        """Sort file names into splits by the patterns; None where there are none.

        Example:
            >>> Configuration("a", patterns={"train": ("a/*.parquet",)}).files(["a/0.parquet", "b/0.parquet"])
            {'train': ['a/0.parquet']}
        """
        if self.patterns is None:
            return None
        names = list(names)
        return {
            split: [name for name in names if any(_matches(name, pattern) for pattern in patterns)]
            for split, patterns in self.patterns.items()
        }


def _matches(name: str, pattern: str) -> bool:
    pattern = pattern.removeprefix("./")
    return fnmatchcase(name, pattern) or fnmatchcase(name, pattern.replace("**/", ""))


def choose_configuration(
    card: dict[str, Any], names: Iterable[str], asked: str | None, spec: str
) -> Configuration:
    """Choose the configuration that was asked for, or the only one, or the default.

    Args:
        card: What `read_card` returned.
        names: Files of the data set.
        asked: Its name, or None.
        spec: The data set as the user wrote it, for messages.

    Returns:
        The configuration; one of the whole folder where none is listed.

    Raises:
        DatasetError: There are several and none was asked for, or none of that name.

    Example:
        >>> choose_configuration({}, ["a/train/0.parquet", "b/train/0.parquet"], "a", "org/name").folder
        'a'
    """
    entries = _entries(card)
    listed = {name: _configuration(name, entry) for name, entry in entries.items()}
    names = list(names)
    listed = listed or {name: Configuration(name, name) for name in _folders_of_splits(names)}
    by_name = {} if listed else sets_by_name(names)
    listed = by_name if asked in by_name else listed
    if asked is None and not listed:
        return Configuration("default", features=_features(card, None))
    example = f"{spec}:{next(iter(listed), 'name')}"
    if asked is not None and asked not in listed:
        raise DatasetError(
            f"No configuration '{asked}' in '{spec}'.{did_you_mean(asked, listed)}\n"
            + (f"Expected one of: {', '.join(listed)}." if listed else "It has none: leave out its name.")
        )
    defaults = [name for name, entry in entries.items() if name == "default" or entry.get("default") is True]
    name = asked or (next(iter(listed)) if len(listed) == 1 else next(iter(defaults), None))
    if name is None:
        raise DatasetError(
            f"'{spec}' has {len(listed)} configurations: {', '.join(listed)}.\n"
            f'Name one after a colon: `dataset="{example}"`.'
        )
    chosen = listed[name]
    return Configuration(chosen.name, chosen.folder, chosen.patterns, _features(card, name))


def sets_by_name(names: Iterable[str]) -> dict[str, Configuration]:
    """Find the sets that names of parquet files tell by a folder or other words, each with its own splits.

    Args:
        names: Files of the data set.

    Returns:
        Those with a training split and one to test on, by name.

    Example:
        >>> names = [f"{name}_{split}.parquet" for name in ("small", "large") for split in ("train", "test")]
        >>> list(sets_by_name([*names, "extra_train.parquet"]))
        ['small', 'large']
    """
    paths = [PurePosixPath(name) for name in names if name.endswith(".parquet")]
    found = {}
    for name, files in sets_of(paths).items():
        splits: dict[str, list[str]] = {}
        for file in files:
            splits.setdefault(split_of_file(file) or "train", []).append(glob.escape(str(file)))
        if splits.keys() >= {"train"} and splits.keys() & set(TESTS):
            patterns = {split: tuple(of) for split, of in splits.items()}
            found[name or "default"] = Configuration(name or "default", patterns=patterns)
    return found


def note_readme_splits(
    configuration: Configuration, splits: Mapping[str, datasets.Dataset], folder: Path
) -> list[str]:
    """Say how many pictures of class folders README.md lists for another split than their folders tell.

    Args:
        configuration: What README.md says of its files.
        splits: The rows of each split, by their folders.
        folder: The folder of the configuration.

    Example:
        >>> note_readme_splits(Configuration("default"), {}, Path("photos"))
        []
    """
    if configuration.patterns is None:
        return []
    read = {
        f"{configuration.folder}/{Path(cell['path']).relative_to(folder)}".strip("/"): split
        for split, rows in splits.items()
        for cell in _undecoded(rows)
    }
    listed = (configuration.files(read) or {}).items()
    kinds = {name: kind_of(split) or split for split, names in listed for name in names}
    others = [
        name for name, split in read.items() if kinds.get(name, "") not in ("", kind_of(split) or split)
    ]
    if not others:
        return []
    return [
        f"README.md sorts {len(others):,} of the {len(read):,} pictures otherwise than their folders, which "
        f"tell the splits, such as {others[0]}."
    ]


def _undecoded(rows: datasets.Dataset) -> list[Any]:
    import datasets

    cells: list[Any] = rows.cast_column("image", datasets.Image(decode=False))["image"][:]
    return cells


def _entries(card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The configurations that a card lists, by name; a stranger's card may be anything."""
    configs = card.get("configs")
    entries = [entry for entry in configs if isinstance(entry, dict)] if isinstance(configs, list) else []
    names = [entry.get("config_name") for entry in entries]
    return {str(name): entry for name, entry in zip(names, entries, strict=True) if name is not None}


def _configuration(name: str, entry: Mapping[str, Any]) -> Configuration:
    folder, files = str(entry.get("data_dir") or ""), entry.get("data_files")
    if isinstance(files, dict):
        files = [{"split": split, "path": path} for split, path in files.items()]
    elif not any(isinstance(one, dict) for one in _listed(files)):
        files = [{"split": "train", "path": files}] if _listed(files) else []
    patterns = {
        str(item["split"]): tuple(_below(folder, path) for path in _listed(item.get("path")))
        for item in _listed(files)
        if isinstance(item, dict) and item.get("split") is not None and _listed(item.get("path"))
    }
    return Configuration(name, folder.strip("./"), patterns or None)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _below(folder: str, path: object) -> str:
    return str(PurePosixPath(folder.strip("./")) / str(path))


def _features(card: dict[str, Any], name: str | None) -> datasets.Features | None:
    """Types of the columns as the card's `dataset_info` tells them, which class names may be in alone."""
    import datasets

    infos = card.get("dataset_info")
    for info in infos if isinstance(infos, list) else [infos]:
        if (
            isinstance(info, dict)
            and "features" in info
            and name in (None, str(info.get("config_name", name)))
        ):
            try:
                return datasets.Features._from_yaml_list(info["features"])
            except Exception:  # a stranger's card may be anything
                return None
    return None


def _folders_of_splits(names: Iterable[str]) -> list[str]:
    """Folders that hold folders of splits, which hold parquet files: the layout of a Hub's parquet branch."""
    parts = [PurePosixPath(name).parts for name in names if name.endswith(".parquet")]
    return sorted({of[0] for of in parts if len(of) == 3 and kind_of(of[1]) and not kind_of(of[0])})


def with_names(
    splits: Mapping[str, datasets.Dataset], features: datasets.Features | None
) -> dict[str, datasets.Dataset]:
    """Give the numbers of labels in listed rows the names that README.md tells, where it is of these classes.

    Args:
        splits: The rows of each split.
        features: Types of the columns as README.md tells them, or None.

    Example:
        >>> import datasets
        >>> features = datasets.Features({"label": datasets.ClassLabel(names=["ant", "bee"])})
        >>> named = with_names({"train": datasets.Dataset.from_dict({"label": [1, 0]})}, features)
        >>> named["train"].features["label"].names
        ['ant', 'bee']
    """
    import datasets

    named = dict(splits)
    for name, kind in (features or {}).items():
        types = {getattr(rows.features.get(name), "dtype", "") for rows in named.values()}
        if isinstance(kind, datasets.ClassLabel) and types == {"int64"}:
            values = {value for rows in named.values() for value in rows[name][:] if value is not None}
            if values == set(range(kind.num_classes)):
                named = {split: rows.cast_column(name, kind) for split, rows in named.items()}
    return named
