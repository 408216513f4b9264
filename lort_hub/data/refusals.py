"""Refuse folders that hold no data set, and say what the files in them may be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lort_hub.data.archives import is_archive
from lort_hub.data.formats import WEIGHTS, advice_on
from lort_hub.data.image_folder.tree import list_pictures
from lort_hub.data.published_lists import TEXTS
from lort_hub.data.request import Request
from lort_hub.data.table_files import folders_below, split_lists, table_files
from lort_hub.data.tables.column_names import is_called_labels
from lort_hub.data.tables.listed import open_lists
from lort_hub.data.tables.lists import LISTS
from lort_hub.data.tables.splits import split_in_name
from lort_hub.errors import DatasetError, NoClassFoldersError, NoSplitError
from lort_hub.shorten import shown

if TYPE_CHECKING:
    import datasets

MOST_TRIED = 3
"""Texts that a refusal tries to read: each takes a look at all images."""
MOST = 0.5
"""Share of the pictures whose names begin with words from which on these may be the classes."""
_BEGINNING = re.compile(r"([^\W\d_]+(?:[ _-][^\W\d_]+)*)[\W_]*\d")
"""The words before the number of a picture."""
RESULTS = frozenset(
    ("log.jsonl", "results.csv", "per_class.csv", "confusions.csv", "counts.csv", "mix.csv", "class_mix.csv")
) | {"predictions.csv", "predictions.parquet", "broken_images.csv", "suspicious_labels.csv"}
RESULTS |= {"duplicates.csv", "near_duplicates.csv"}
"""Tables in an output folder that are written there, and no data."""


def refuse_folders(folder: Path, label_column: str) -> None:
    """Refuse class folders where a column was asked for that a list beside them may have.

    Raises:
        DatasetError: There is such a list.

    Example:
        >>> refuse_folders(Path("/nonexistent"), "label")
    """
    files = [file for file in table_files(folder) if not is_archive(file)]
    if files := files or split_lists(folder):
        raise DatasetError(
            f"No table in '{folder}' is read that has a column '{label_column}', and folders have none.\n"
            f'Give the list itself, e.g. `dataset="{files[0]}"`, or leave out `label_column` to read folders.'
        )


def refuse_output(folder: Path) -> None:
    """Refuse a folder that a recipe wrote, where it holds nothing but that.

    Raises:
        DatasetError: It does.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "labels.csv").touch()
        >>> refuse_output(folder)
    """
    files = [file for file in table_files(folder) if file.suffix.lower() != ".json"]
    if all(file.name in RESULTS for file in files):
        raise DatasetError(
            f"'{folder}' is an output folder of lort_hub: it holds a model or a report, and no data set.\n"
            "Give the images as `dataset`; run.json or audit.json in it names those that it was made of.\n"
            f"To classify images by a model in it: lort-hub predict {folder} IMAGES."
        )


def nothing_to_read(folder: Path, request: Request) -> DatasetError:
    """Explain what a folder without images and tables holds, and what to do.

    Args:
        folder: The folder.
        request: The arguments of `load_long_tailed`.

    Raises:
        DatasetError: It is the folder of a model, or its list names no image.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> str(nothing_to_read(folder, Request("photos"))).endswith("of image files and one of labels.")
        True
    """
    below = sorted({name for _, names in folders_below(folder) for name in names})
    files = table_files(folder)
    if lists := [file for file in files if file.suffix.lower() in LISTS]:
        _refuse_model(folder, below)
        open_lists(lists, folder, request, only=True)  # says why the first one names no image
    names = sorted(path.name for path in folder.iterdir())
    pictures = sum(len(one.pictures) for one in list_pictures(str(folder)).below())
    held = f"its {pictures:,} pictures lie in no class folders, and no list names their classes: "
    said = (
        f"{held * bool(pictures)}{shown(names) or 'it is empty'}.",
        advice_on(below),
        *_of_names(folder),
        *_of_archives(files, folder),
    )
    return DatasetError(
        f"'{folder}' holds no data set that can be read: {' '.join(filter(None, said))}\n"
        "Expected train.parquet and test.parquet, an image folder (train/CLASS/*.jpg, test/CLASS/*.jpg), "
        "or a CSV with a column of image files and one of labels."
    )


def with_files_beside(error: DatasetError, folder: Path, request: Request) -> DatasetError:
    """Add to the refusal of a folder of pictures what lists and archives in it are good for.

    Args:
        error: The refusal: no class folders, no split, or folders that can be read in two ways.
        folder: The folder.
        request: The arguments of `load_long_tailed`.

    Example:
        >>> error = DatasetError("The 3 pictures of 'photos' lie in no class folders.")
        >>> with_files_beside(error, Path("/nonexistent"), request) is error  # doctest: +SKIP
        True
    """
    files = table_files(folder)
    lists = [file for file in files if file.suffix.lower() in LISTS and "submission" not in file.name.lower()]
    said = _of_archives(files, folder) if isinstance(error, NoClassFoldersError | NoSplitError) else []
    if isinstance(error, NoClassFoldersError):
        said += _of_names(folder)
    if lists and isinstance(error, NoClassFoldersError):
        lists.sort(key=lambda file: file.suffix.lower() != ".json")
        said.append(_of_list(lists[0], request))
    elif not isinstance(error, NoSplitError):
        said += _of_texts(folder, request)
    problem, *rest = str(error).splitlines()
    return type(error)("\n".join([" ".join([problem, *said]), *rest]))


def _of_list(file: Path, request: Request) -> str:
    try:
        open_lists([file], file.parent, request, only=True)
    except DatasetError as cause:
        return f"The classes are not in {file.name} either: {' '.join(str(cause).splitlines())}"
    return f"Where {file.name} gives the class of each image, name it itself as the data set."


def _of_names(folder: Path) -> list[str]:
    """What names of pictures are good for, where they begin with words that repeat, as cat.0.jpg does."""
    for one in list_pictures(str(folder)).below():
        begins = {name: match[1] for name in one.pictures if (match := _BEGINNING.match(name))}
        if len(begins) >= MOST * len(one.pictures) and 1 < len({*begins.values()}) <= len(begins) // 2:
            such = next(iter(begins))
            advice = "sort them into its folder"
            return [f"Where names begin with the class, as {such} with {begins[such]}, {advice}."]
    return []


def _of_texts(folder: Path, request: Request) -> list[str]:
    """What the first text that names images of the folder and something of each is good for."""
    texts = [file for file in split_lists(folder) if file.suffix.lower() in TEXTS]
    texts = [file for file in texts if "partition" not in file.stem.lower()]
    texts.sort(key=lambda file: (not is_called_labels(file.stem), split_in_name(file.stem) != "train"))
    for file in texts[:MOST_TRIED]:
        with suppress(DatasetError):
            opened = open_lists([file], folder, request, only=True)
            if opened is None or any(map(_are_signs, opened.splits.values())):
                continue
            root = f' with `image_root="{folder}"`' if file.parent != folder else ""
            name = file.relative_to(folder).as_posix()
            return [f"Where {name} gives the class of each image, name it itself as the data set{root}."]
    return []


def _are_signs(rows: datasets.Dataset) -> bool:
    """Whether a list says of each image whether it is of one class, with 1 and -1, as VOC's do."""
    names = [name for name, kind in rows.features.items() if type(kind).__name__ != "Image"]
    values = {str(value) for name in names for value in rows[name][:]}
    return {"-1", "1"} <= values <= {"-1", "0", "1"}


def _of_archives(files: Sequence[Path], folder: Path) -> list[str]:
    names = [file.relative_to(folder).as_posix() for file in files if is_archive(file)]
    advice = "where they hold the images, unpack them: one folder for each class."
    return [f"Not unpacked: {shown(names, 3)}; {advice}"] if names else []


def _refuse_model(folder: Path, names: Sequence[str]) -> None:
    if weights := next((name for name in names if name.lower().endswith(WEIGHTS)), None):
        raise DatasetError(
            f"'{folder}' is the folder of a model: it holds {weights}, and no image.\n"
            f'Give the images as `dataset`, and this folder as `backbone`: "local-dir:{folder}".'
        )
