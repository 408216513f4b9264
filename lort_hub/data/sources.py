"""Open a data set by what the user calls it: a name, a Hub id, a folder or a file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lort_hub.data.hub_data import open_hub
from lort_hub.data.image_folder.names import TESTS, is_trainval, kind_of
from lort_hub.data.local_data import open_any, open_file
from lort_hub.data.presets import PRESETS, digits
from lort_hub.data.published_tables import lists_beside, split_as_listed
from lort_hub.data.request import Opened, OpenedData, Request
from lort_hub.data.spec import DatasetSpec, parse_spec
from lort_hub.data.tables.column_names import is_label
from lort_hub.data.tables.columns import find_columns
from lort_hub.data.tables.columns_of_splits import check_labels_elsewhere, with_columns, with_label
from lort_hub.data.tables.labels import code_labels, note_test_labels
from lort_hub.data.tables.splits import (
    SPLIT_COLUMNS,
    is_called_as_split,
    kinds_of_cells,
    may_be_splits,
    note_other_splits,
    rows_of_splits,
    split_in_name,
    tells_splits,
)
from lort_hub.errors import DatasetError, NoSplitError, did_you_mean
from lort_hub.shorten import shown

if TYPE_CHECKING:
    import datasets


def open_source(request: Request) -> OpenedData:
    """Open a data set's training and test rows.

    Args:
        request: The arguments of `load_long_tailed`.

    Raises:
        DatasetError: It cannot be found or has no such split or columns.
        HubUnavailableError: The Hub is needed and does not answer.

    Example:
        >>> found = open_source(Request("digits"))
        >>> len(found.train), len(found.test)
        (1297, 500)
    """
    spec = parse_spec(request.spec)
    preset = PRESETS.get(spec.preset or "")
    request = replace(
        request,
        configuration=spec.configuration,
        image_column=request.image_column or (preset.image_column if preset else None),
        label_column=request.label_column or (preset.label_column if preset else None),
    )
    opened, revision = _open(spec, request)
    if opened.chosen is None:
        opened = _by_lists(_by_column(opened, request), request)
        train_name = _choose(request.train_split, opened, "train_split") or _choose_train(
            opened, request.spec
        )
    else:
        train_name = opened.chosen[0]
    train = opened.splits[train_name]
    if not len(train):
        raise DatasetError(f"Split '{train_name}' of '{request.spec}' holds no row to train on.")
    columns = find_columns(train, request.image_column, request.label_column, request.group_column)
    if len(opened.splits) == 1 and request.train_split is None:
        opened.notes += _unread_splits(train, {*columns, request.group_column})
    train = _one_row_each(train, columns, train_name, opened)
    if opened.chosen is None:
        test_name = _choose(request.test_split, opened, "test_split") or _labelled(
            opened, train_name, columns[1], request
        )
    else:
        test_name = opened.chosen[1]
    if test_name == train_name:
        raise DatasetError(
            f"'{train_name}' is named as the training split and as the test split.\n"
            "Name another one with `test_split`, or none: a fifth of each class is then held out."
        )
    test = opened.splits[test_name] if test_name else None
    if test is not None and test_name is not None:
        test = _one_row_each(with_columns(test, columns, test_name), columns, test_name, opened)
        opened.notes += note_test_labels(train, test, columns[1], test_name)
    return OpenedData(
        name=spec.name,
        dataset=spec.source,
        revision=revision,
        train=train,
        test=test,
        train_split=train_name,
        test_split=test_name,
        image_column=columns[0],
        label_column=columns[1],
        record=opened.record,
        notes=tuple(opened.notes),
    )


def _open(spec: DatasetSpec, request: Request) -> tuple[Opened, str | None]:
    """A data set's splits, and the commit of one from the Hub."""
    if spec.source == "digits":
        return Opened(digits()), None
    if spec.repo_id:
        return open_hub(spec.repo_id, spec.revision, request)
    path = Path(spec.source)
    return (open_any if path.is_dir() else open_file)(path, request), None


def _choose(asked: str | None, opened: Opened, argument: str) -> str | None:
    """The split that was asked for, by its name or another word for it; None where none was."""
    if asked is None:
        return None
    alike = (name for name in opened.splits if kind_of(asked) and kind_of(name) == kind_of(asked))
    name = asked if asked in opened.splits else next(alike, None)
    if name is None:
        names = ", ".join(opened.splits)
        raise NoSplitError(
            f"No split '{asked}'.{did_you_mean(asked, opened.splits)}\n`{argument}` expects one of: {names}."
        )
    return name


def _choose_train(opened: Opened, spec: str) -> str:
    trains = [name for name in opened.splits if kind_of(name) == "train"]
    if "train" not in trains and len(trains) != 1:
        raise NoSplitError(
            f"No split 'train' in '{spec}', found: {', '.join(opened.splits)}.\nName one with `train_split`."
        )
    return "train" if "train" in trains else trains[0]


def _one_row_each(
    rows: datasets.Dataset, columns: tuple[str, str], name: str, opened: Opened
) -> datasets.Dataset:
    """The first row of each image that a list names, as by a row for each object or annotator."""
    import datasets

    image, label = columns
    kind = rows.features[image]
    if not isinstance(kind, datasets.Image) or kind.decode:  # only lists name files alone
        return rows
    known: dict[str, Any] = {}
    first = []
    for row, (cell, value) in enumerate(zip(rows[image][:], rows[label][:], strict=True)):
        if not cell or cell["bytes"] is not None or cell["path"] not in known:
            first.append(row)
        if cell and cell["bytes"] is None and known.setdefault(cell["path"], value) != value:
            raise DatasetError(
                f"Row {row} gives '{cell['path']}' the label {value!r}, and an earlier row "
                f"{known[cell['path']]!r}.\n"
                "Expected one class per image; multi-label data are not read. Leave one row for each image."
            )
    if again := len(rows) - len(first):
        opened.notes.append(
            f"{again:,} of {len(rows):,} rows of '{name}' name an image that an earlier row names, with the "
            "same label; each image is counted once."
        )
    return rows.select(first) if again else rows


def _labelled(opened: Opened, train: str, label: str, request: Request) -> str | None:
    """The first test split that has labels; those that have none are noted."""
    kinds = TESTS[:1] if is_trainval(train) else TESTS  # trainval holds the validation split
    names = [name for kind in kinds for name in opened.splits if kind_of(name) == kind != kind_of(train)]
    for name in names or _longer_named(opened, train, kinds):
        rows = with_label(opened.splits[name], label)
        if label in rows.column_names and not _none_known(rows, opened.splits[train], label):
            return name
        opened.notes += check_labels_elsewhere(rows, opened.splits[train], label, name)
        opened.notes.append(f"The {len(rows):,} images of '{name}' have no labels and are set aside.")
    asked = request.train_split or request.test_split
    if others := [] if asked else [name for name in opened.splits if name not in (*names, train)]:
        opened.notes.append(f"Splits that are not read: {', '.join(others)}. Name one with `test_split`.")
    return None


def _none_known(rows: datasets.Dataset, train: datasets.Dataset, label: str) -> bool:
    """Whether no row has a label: all are empty, or a -1 that is no class of the training split."""
    labels = code_labels(rows, label)
    return labels.none_known or (labels.names == ("-1",) and "-1" not in code_labels(train, label).names)


def _longer_named(opened: Opened, train: str, kinds: Sequence[str]) -> list[str]:
    """The one split that is called longer than a test split, as test_seen; none where several are."""
    for kind in kinds:
        names = [name for name in opened.splits if split_in_name(name) == kind and name != train]
        if names:
            return names if len(names) == 1 else []
    return []


def _by_column(opened: Opened, request: Request) -> Opened:
    """The splits that a column of one table tells."""
    if len(opened.splits) > 1:
        return opened
    (rows,) = opened.splits.values()
    for column in sorted(rows.column_names, key=_certainty):
        is_other = column in (request.label_column, request.group_column, request.image_column)
        cells = None if is_other else _cells_of_splits(rows, column)
        if cells is None or (not request.label_column and _are_classes(column, cells)):
            continue
        whole = next(iter(opened.splits))
        if others := _flags_beside(rows, column, request):
            if request.train_split is None:
                raise _split_or_class(column, others)
            continue
        splits = rows_of_splits(column, cells, whole, is_told=request.train_split is not None)
        if not splits:
            continue
        kinds = kinds_of_cells(column, cells)
        words = {split: [cell for cell, kind in kinds.items() if kind == split] for split in splits}
        told = [f"{split} ({shown(of)})" if len(of) > 1 else split for split, of in words.items()]
        opened.notes.append(
            f"Column '{column}' tells the splits: {', '.join(told)}.{_tested(column, splits)}"
        )
        known = (request.label_column, request.group_column, request.image_column)
        more = {name: _cells_of_splits(rows, name) or [] for name in rows.column_names if name not in known}
        more = {name: of for name, of in more.items() if not _are_classes(name, of)}
        opened.notes += note_other_splits(column, {column: cells, **more})
        rest = _without_splits(rows, column, request)
        return Opened({name: rest.select(chosen) for name, chosen in splits.items()}, opened.notes)
    return opened


def _by_lists(opened: Opened, request: Request) -> Opened:
    """The splits that lists of names beside a list of labels tell."""
    if not (files := lists_beside(opened, request)):
        return opened
    ((name, rows),) = opened.splits.items()
    columns = find_columns(rows, request.image_column, request.label_column, request.group_column)
    opened.splits[name] = _one_row_each(rows, columns, name, opened)
    return split_as_listed(opened, columns, files, is_asked=bool(request.train_split or request.test_split))


def _without_splits(rows: datasets.Dataset, column: str, request: Request) -> datasets.Dataset:
    """The other columns, of which one may be the label."""
    kept = (request.label_column, request.group_column)
    told = [name for name in rows.column_names if name == column or (tells_splits(name) and name not in kept)]
    if len(rows.column_names) - len(told) < 2:
        raise DatasetError(
            f"Column '{column}' tells the splits, and no other one is left that could be the label.\n"
            f'Where it is the label itself: `label_column="{column}"`.\n'
            "Else write a column of labels into the list."
        )
    return rows.remove_columns(told)


def _tested(column: str, splits: Mapping[str, Sequence[int]]) -> str:
    """How many rows a column that may be an attribute, such as the result of a test, keeps from training."""
    if not is_called_as_split(column):
        return ""
    total = sum(map(len, splits.values()))
    kept = total - len(splits.get("train", ()))
    return (
        f" By it {kept:,} of {total:,} rows are not trained on; where it is an attribute, "
        '`train_split="train"` reads every row as one to train on.'
    )


def _are_classes(column: str, cells: Sequence[str]) -> bool:
    """Whether a column is called as labels are, and "test" alone is no cell of it."""
    return is_label(column) and not any(map(kind_of, cells))


def _unread_splits(rows: datasets.Dataset, known: Collection[str | None]) -> list[str]:
    """Notes of columns that may tell splits in words that are not known."""
    cells = {name: _cells_of_splits(rows, name) for name in rows.column_names if name not in known}
    return [
        f"Column '{name}' is not read as splits: {shown(sorted(set(of)))}. Where it tells them, write train, "
        "validation and test."
        for name, of in cells.items()
        if of and may_be_splits(name, of)
    ]


def _certainty(column: str) -> tuple[bool, bool, bool]:
    """Order of columns that may tell splits, the surest first: an image may be valid in other ways."""
    return column.lower() not in SPLIT_COLUMNS, not tells_splits(column), "valid" in column.lower()


def _flags_beside(rows: datasets.Dataset, column: str, request: Request) -> list[str]:
    """Columns of yes and no beside one that is called as a split, which may be a class as they are then."""
    known = (column, request.label_column, request.group_column)
    if not is_called_as_split(column) or not _holds_flags(rows, column):
        return []
    others = [name for name in rows.column_names if name not in known and not is_label(name)]
    return [name for name in others if not tells_splits(name) and _holds_flags(rows, name)]


def _split_or_class(column: str, others: list[str]) -> DatasetError:
    return DatasetError(
        f"Column '{column}' may tell a split, or a class as {shown(others)} may.\n"
        "Where it tells a split, call it 'is_train', 'is_test' or 'is_validation'.\n"
        'Where it is none: `train_split="train"` reads every row as one to train on.'
    )


def _holds_flags(rows: datasets.Dataset, column: str) -> bool:
    kind = str(getattr(rows.features[column], "dtype", ""))
    if not kind.startswith(("bool", "int", "uint", "string", "large_string")):
        return False
    return {str(cell).lower() for cell in rows[column][:]} in ({"0", "1"}, {"true", "false"}, {"yes", "no"})


def _cells_of_splits(rows: datasets.Dataset, column: str) -> list[str] | None:
    """Cells of a column as texts, "" where one is empty; None where it cannot tell splits."""
    import datasets

    kind = rows.features[column]
    is_named = isinstance(kind, datasets.ClassLabel)
    if not (is_named or getattr(kind, "dtype", "") in ("string", "large_string")) and not (
        (tells_splits(column) or is_called_as_split(column)) and isinstance(kind, datasets.Value)
    ):
        return None
    cells = rows[column][:]
    if is_named:
        names = dict(enumerate(kind.names))
        cells = [names.get(cell) for cell in cells]
    whole = (int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in cells)
    return ["" if cell is None else str(cell) for cell in whole]
