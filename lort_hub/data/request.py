"""Hold the arguments that name a data set, and its opened splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lort_hub.data.image_folder.classes import ClassFolder
from lort_hub.errors import ConfigError

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Request:
    """Arguments of `load_long_tailed` that say what to open.

    Attributes:
        spec: The data set, as written.
        configuration: Name of its configuration, or None.
        image_column: Column of the images, or None.
        label_column: Column of the labels, or None.
        image_root: Folder of the images that a list names, or None.
        train_split: Name of the training split, or None.
        test_split: Name of the test split, or None.
        class_folder: Which folder below the split of an image folder is the class, or None.
        group_column: Column of groups, which is not one of labels, or None.

    Raises:
        ConfigError: `class_folder` is another word.
    """

    spec: str
    configuration: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    image_root: Path | None = None
    train_split: str | None = None
    test_split: str | None = None
    class_folder: ClassFolder | None = None
    group_column: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be right before anything is opened."""
        if self.class_folder not in (None, "first", "last"):
            raise ConfigError(f'`class_folder` is {self.class_folder!r}, expected "first" or "last".')


@dataclass
class Opened:
    """What was opened of a data set.

    Attributes:
        splits: Rows of each split.
        notes: Lines for the user on how they were read.
        record: More of that for the run's record, JSON-ready.
        chosen: Names of the training and the test split, where reading has chosen them already.
        lists: The lists of image files that hold the rows, where such do.
        folders: The data folder of these lists, and others that hold their images.
    """

    splits: dict[str, datasets.Dataset]
    notes: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    chosen: tuple[str, str | None] | None = None
    lists: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class OpenedData:
    """The training and test rows of a data set, and where they are from.

    Attributes:
        name: Short name of the data set.
        dataset: Hub id, folder or file.
        revision: Commit of a Hub id; None otherwise.
        train: Training rows.
        test: Test rows; None where there is no such split.
        train_split: Name of the training split.
        test_split: Name of the test split; None where there is none.
        image_column: Column of the images.
        label_column: Column of the labels.
        record: More for the run's record, JSON-ready.
        notes: Lines for the user.
    """

    name: str
    dataset: str
    revision: str | None
    train: datasets.Dataset
    test: datasets.Dataset | None
    train_split: str
    test_split: str | None
    image_column: str
    label_column: str
    record: dict[str, Any]
    notes: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """Describe for the run's record where the rows are from, JSON-ready."""
        names = ("name", "dataset", "revision", "train_split", "test_split", "image_column", "label_column")
        return {name: getattr(self, name) for name in names} | self.record
