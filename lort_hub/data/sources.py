"""Where images come from: the embedded digits, Hub data sets and local folders, through `datasets`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lort_hub.data.image_folder.classes import ClassFolder
from lort_hub.data.image_folder.read import read_image_folder
from lort_hub.download import WITHOUT_THE_HUB, pin_revision
from lort_hub.errors import DatasetError, HubUnavailableError, did_you_mean

if TYPE_CHECKING:
    import datasets

DIGITS_TEST_PER_CLASS = 50
PLAIN_LABELS = ("string", "large_string", "int", "uint", "bool")
TEST_SPLITS = ("test", "validation", "val", "valid")


@dataclass(frozen=True)
class Preset:
    """A data set by a short name.

    Attributes:
        repo_id: Its Hub id; None where there is no copy on the Hub to point at.
        image_column: Column of the images.
        label_column: Column of the labels.
        imbalance: The literature's default.
    """

    repo_id: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    imbalance: str = "none"


PRESETS = {
    "digits": Preset(None, "image", "label", "exp:10"),
    "cifar10": Preset("uoft-cs/cifar10", "img", "label", "exp:100"),
    "cifar100": Preset("uoft-cs/cifar100", "img", "fine_label", "exp:100"),
    "imagenet-lt": Preset(),
    "places-lt": Preset(),
    "inat2018": Preset(),
}


def open_source(
    spec: str,
    train_split: str | None,
    test_split: str | None,
    *,
    class_folder: ClassFolder | None = None,
    label_column: str | None = None,
) -> tuple[dict[str, datasets.Dataset | None], dict[str, Any]]:
    """Open a data set's training and test rows.

    Args:
        spec: As in `load_long_tailed`.
        train_split: Name of the training split, or None.
        test_split: Name of the test split, or None.
        class_folder: As in `load_long_tailed`.
        label_column: The named label column, or None.

    Returns:
        {"train": rows, "test": rows or None where there is no such split}, and a JSON description, with lines
        for the user as "notes".

    Raises:
        DatasetError: It cannot be found or has no such split.
        HubUnavailableError: The Hub is needed and does not answer.

    Example:
        >>> splits, origin = open_source("digits", None, None)
        >>> len(splits["train"]), len(splits["test"])
        (1297, 500)
    """
    folder, revision = Path(spec).expanduser(), None
    if spec == "digits":
        name, source, opened = spec, spec, _digits()
    elif folder.is_dir():
        name, source = folder.resolve().name, str(folder.resolve())
        reading = read_image_folder(
            folder,
            train_split=train_split,
            test_split=test_split,
            class_folder=class_folder,
            label_column=label_column,
        )
        if reading:
            return {"train": reading.train, "test": reading.test}, reading.origin()
        opened = _load(source, None)
    elif spec.startswith((".", "/", "~")):
        raise DatasetError(f"No folder '{spec}' (from --dataset).")
    elif spec in PRESETS or "/" in spec:
        source, _, asked = (PRESETS[spec].repo_id or "" if spec in PRESETS else spec).partition("@")
        if not source:
            raise DatasetError(
                f"'{spec}' has no official copy on the Hub that lort_hub could point at.\n"
                "Prepare its published lists as an imagefolder (train/CLASS/*.jpg, test/CLASS/*.jpg) or a "
                "Hub data set, and give that as --dataset."
            )
        revision = pin_revision(source, asked or None, kind="dataset", error=DatasetError)
        name, opened = source.rpartition("/")[2], _load(source, revision)
    else:
        raise DatasetError(
            f"Unknown data set '{spec}'.{did_you_mean(spec, PRESETS)}\n"
            f"Expected {', '.join(PRESETS)}, org/name on the Hub, or an existing folder."
        )
    train_name = _choose(train_split, ("train",), opened, "--train-split")
    if train_name is None:
        raise DatasetError(
            f"No split 'train' in '{spec}', found: {', '.join(opened)}.\nName one with --train-split."
        )
    test_name = _choose(test_split, TEST_SPLITS, opened, "--test-split")
    origin = {
        "name": name,
        "dataset": source,
        "revision": revision,
        "train_split": train_name,
        "test_split": test_name,
    }
    return {"train": opened[train_name], "test": opened[test_name] if test_name else None}, origin


def _choose(
    asked: str | None, usual: tuple[str, ...], opened: dict[str, datasets.Dataset], flag: str
) -> str | None:
    if asked is None:
        return next((name for name in usual if name in opened), None)
    if asked not in opened:
        raise DatasetError(
            f"No split '{asked}'.{did_you_mean(asked, opened)}\n{flag} expects one of: {', '.join(opened)}."
        )
    return asked


def _load(path: str, revision: str | None) -> dict[str, datasets.Dataset]:
    import datasets

    try:
        opened = datasets.load_dataset(path, revision=revision)
    except (datasets.exceptions.DatasetNotFoundError, ValueError, FileNotFoundError) as cause:
        raise DatasetError(
            f"Cannot open '{path}' as a data set: {str(cause).splitlines()[0]}\n"
            "Expected train.parquet and test.parquet, or an imagefolder (train/CLASS/*.jpg, test/CLASS/*.jpg)"
        ) from cause
    except (
        datasets.exceptions.DatasetGenerationError,
        datasets.exceptions.DatasetGenerationCastError,
    ) as cause:
        reason = str(cause.__cause__ or cause).splitlines()[0]
        raise DatasetError(f"The files of '{path}' cannot be read as one data set: {reason}") from cause
    except ConnectionError as cause:
        raise HubUnavailableError(f"Cannot download '{path}': {cause}\n{WITHOUT_THE_HUB}") from cause
    return dict(opened)


def _digits() -> dict[str, datasets.Dataset]:
    """scikit-learn's handwritten digits, 8 x 8 grey; the last 50 images of each class are the test set."""
    import datasets
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    names = [str(digit) for digit in range(10)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    is_test = np.zeros(len(digits.target), dtype=bool)
    for digit in range(10):
        is_test[np.flatnonzero(digits.target == digit)[-DIGITS_TEST_PER_CLASS:]] = True

    def rows(chosen: NDArray[np.bool_]) -> datasets.Dataset:
        images = [datasets.Image().encode_example(image) for image in pixels[chosen]]
        return datasets.Dataset.from_dict(
            {"image": images, "label": digits.target[chosen].tolist()}, features=features
        )

    return {"train": rows(~is_test), "test": rows(is_test)}


def find_columns(rows: datasets.Dataset, image: str | None, label: str | None) -> tuple[str, str]:
    """Find the image and label columns by their types where they are not named.

    Args:
        rows: The training rows.
        image: Named image column, or None.
        label: Named label column, or None.

    Raises:
        DatasetError: A named column does not exist, none fits, or several do.

    Example:
        >>> splits, _ = open_source("digits", None, None)
        >>> find_columns(splits["train"], None, None)
        ('image', 'label')
    """
    import datasets

    kinds = rows.features
    image = _one_column(
        rows, image, "--image-column", "image", lambda name: isinstance(kinds[name], datasets.Image)
    )
    named = [name for name in kinds if isinstance(kinds[name], datasets.ClassLabel)]
    plain = [
        name
        for name in kinds
        if name != image and str(getattr(kinds[name], "dtype", "")).startswith(PLAIN_LABELS)
    ]
    if label in kinds and label not in named + plain:
        raise DatasetError(
            f"Column '{label}' holds {kinds[label]}, expected class labels, numbers or texts.\n"
            f"--label-column could be one of: {', '.join(named + plain) or 'none'}."
        )
    candidates = named or plain
    return image, _one_column(rows, label, "--label-column", "label", lambda name: name in candidates)


def _one_column(
    rows: datasets.Dataset, asked: str | None, flag: str, kind: str, fits: Callable[[str], bool]
) -> str:
    columns: list[str] = rows.column_names
    if asked is not None:
        if asked not in columns:
            expected = f"{flag} expects one of: {', '.join(columns)}."
            raise DatasetError(f"No column '{asked}'.{did_you_mean(asked, columns)}\n{expected}")
        return asked
    found = [name for name in columns if fits(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        hint = {
            "image": "a column of encoded bytes will do",
            "label": "an image folder needs two classes or more, as train/CLASS/*.jpg",
        }[kind]
        raise DatasetError(
            f"No {kind} column found among: {', '.join(columns)}.\nName it with {flag}; {hint}."
        )
    raise DatasetError(
        f"Several columns could be the {kind}: {', '.join(found)}.\nChoose one, e.g. {flag} {found[0]}"
    )


def read_labels(
    train: datasets.Dataset, test: datasets.Dataset | None, column: str, origin: dict[str, Any]
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]:
    """Read labels as numbers 0..K-1 and check every one of them.

    Args:
        train: Training rows.
        test: Test rows, or None.
        column: Column of the labels.
        origin: Names of the splits, for messages.

    Returns:
        Names of the K classes, training labels (N,), test labels (M,) or an empty array.

    Raises:
        DatasetError: A label is missing, outside the names, or only in the test split.

    Example:
        >>> splits, origin = open_source("digits", None, None)
        >>> names, train, test = read_labels(splits["train"], splits["test"], "label", origin)
        >>> names[:3], train[:3]
        (('0', '1', '2'), array([0, 1, 2]))
    """
    import datasets

    kind = train.features[column]
    columns = {"train": train[column][:], "test": test[column][:] if test is not None else []}
    for split, values in columns.items():
        if (row := next((row for row, value in enumerate(values) if value is None), None)) is not None:
            raise DatasetError(
                f"Row {row} of split '{origin[f'{split}_split']}' has no label in column '{column}'."
            )
    if isinstance(kind, datasets.ClassLabel):
        names = tuple(kind.names)
        labels = {split: np.asarray(values, dtype=np.int64) for split, values in columns.items()}
        for split, values in labels.items():
            if (outside := np.flatnonzero((values < 0) | (values >= len(names)))).size:
                raise DatasetError(
                    f"Row {outside[0]} of split '{origin[f'{split}_split']}' has label {values[outside[0]]}, "
                    f"expected 0..{len(names) - 1}, the {len(names)} names of column '{column}' "
                    f"({outside.size} such rows).\n"
                    "Mend the labels, or name another column with --label-column or split with --test-split."
                )
        return names, labels["train"], labels["test"]
    values = sorted(set(columns["train"]))
    if unknown := sorted(set(columns["test"]) - set(values)):
        raise DatasetError(
            f"Classes with test images but no training image: {', '.join(map(repr, unknown[:5]))}"
            f"{f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''}.\n"
            "A head cannot know them: add training images, or remove them from the test split."
        )
    number = {value: k for k, value in enumerate(values)}
    coded = {split: np.array([number[v] for v in found], dtype=np.int64) for split, found in columns.items()}
    return tuple(str(value) for value in values), coded["train"], coded["test"]
