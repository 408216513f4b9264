"""Tell the training, test and validation split of files and folders by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import PurePath

from lort_hub.data.image_folder.names import KIND_OF, KINDS, TESTS, TRAINVAL, fold, with_trainval
from lort_hub.data.tables.column_names import is_label
from lort_hub.errors import DatasetError
from lort_hub.shorten import quoted, shown

MOST_SPLITS = 10
"""Different cells of a column above which it tells no splits, whatever words are in them."""
SPLIT_COLUMNS = ("split", "splits", "partition", "data_split", "dataset_split", "split_name")
"""Columns that tell nothing but the split of a row."""
_CALLED_SETS = frozenset(
    ("set", "subset", "dataset", "partition", "phase", "fold", "usage", "stage", "purpose")
) | {"menge", "teilmenge", "conjunto", "ensemble", "jeu", "insieme"}
_ABROAD = frozenset(
    ("tr", "trn", "te", "tst", "va", "vl", "vld", "learn", "learning", "holdout", "heldout", "hold-out")
) | frozenset(
    ("lernen", "prüfung", "pruefung", "validierung", "entrenamiento", "prueba", "validación", "validacion")
)
_ABROAD |= {"treino", "teste", "validação", "apprentissage", "entraînement", "entrainement", "essai"}
_ABROAD |= {"addestramento", "prova", "validazione", "обучение", "тест", "训练", "测试", "验证", "学習"}
"""Words for splits in other languages, and short ones: not read, they tell that a column is of splits."""
MOST_UNKNOWN = 4
"""Different words in a column called as one of splits up to which they may be splits of an unknown name."""
_OTHER = {"train": "test", "test": "train", "validation": "train"}
_TEST_WORDS = {word for kind in TESTS for word in KINDS[kind]} - {"valid"}
"""Words that settle that a column tells splits; an image may be valid, and a train may be a class."""
_OF_ANY_SET = {"annotation", "annotations", "data", "image", "images", "info", "label", "labels", "list"}
_OF_ANY_SET |= {"meta", "metadata", "set", "split", "gt", "ground", "truth", "solution", "target", "targets"}
"""Words of a list's name that tell no set."""
_FOLDS = {"fold", "split"}
"""Words of sets of the same images, whatever number is beside them."""
_WORD = r"[A-Z]?[a-z]+|[A-Z]+"
_PARTITION = re.compile(r"eval(uation)?_?(partition|status)", re.IGNORECASE)
"""What CelebA and DeepFashion call the splits of their images."""
_SHARD = re.compile(r"[-_.]\d+[-_]of[-_]\d+$")


def split_in_name(name: str) -> str | None:
    """Return the split that one of the words of a name stands for, where only one split is named.

    Example:
        >>> split_in_name("train_labels"), split_in_name("testImages"), split_in_name("train_test_split")
        ('train', 'test', None)
        >>> split_in_name("train_val_list"), split_in_name("train_val_split")
        ('train', None)
        >>> split_in_name("list_eval_partition")  # which tells all splits
    """
    if "val" in name.lower():
        name = _PARTITION.sub("", with_trainval(name))
    words = re.findall(_WORD, name)
    kinds = {KIND_OF[word.lower()] for word in words if word.lower() in KIND_OF}
    return kinds.pop() if len(kinds) == 1 else None


def without_split(name: str) -> str:
    """Leave the words of splits out of a name, so that the lists of one set are called the same.

    Example:
        >>> without_split("small_train.csv"), without_split("small_test.csv"), without_split("TestImages.txt")
        ('small_.csv', 'small_.csv', 'Images.txt')
    """
    return re.sub(_WORD, lambda word: "" if word[0].lower() in KIND_OF else word[0], with_trainval(name))


def set_in_name(name: str) -> frozenset[str]:
    """Return the words and numbers of a list's name that tell of which of several sets it is.

    Example:
        >>> sorted(set_in_name("small_train_1")), sorted(set_in_name("testLabels"))
        (['1', 'small'], [])
    """
    words = {word.lower() for word in re.findall(rf"{_WORD}|\d+", with_trainval(name))}
    return frozenset(words - KIND_OF.keys() - _OF_ANY_SET)


def sets_of(paths: Iterable[PurePath]) -> dict[str, list[PurePath]]:
    """Group files by what their folders and names tell besides splits; those in a row are of one set.

    Example:
        >>> names = ("ant/train-00000-of-00002.parquet", "ant/test.parquet", "bee_train.parquet")
        >>> list(sets_of(map(PurePath, names)))
        ['ant', 'bee']
        >>> list(sets_of([PurePath("train_28.parquet"), PurePath("train_64.parquet")]))
        ['28', '64']
        >>> list(sets_of([PurePath("train_1.parquet"), PurePath("train_2.parquet")]))
        ['']
    """
    paths = list(paths)
    own = {path: _besides_split(path) for path in paths}
    numbered: dict[str, dict[str, list[int]]] = {}
    for name in own.values():
        numbers = [int(number) for number in re.findall(r"\d+", name)]
        numbered.setdefault(re.sub(r"\W*_*\d+", "", name), {})[name] = numbers
    for base, numbers_of in numbered.items():
        each = [set(column) for column in zip_longest(*numbers_of.values())]
        differing = [numbers - {None} for numbers in each if len(numbers) > 1]
        are_in_a_row = all(max(numbers) - min(numbers) < len(numbers) for numbers in differing)
        if len(numbers_of) > 1 and are_in_a_row and not _FOLDS & {*re.findall(_WORD, base.lower())}:
            own |= {path: base for path, name in own.items() if name in numbers_of}
    sets: dict[str, list[PurePath]] = {}
    for path in paths:
        sets.setdefault(own[path], []).append(path)
    return sets


def _besides_split(path: PurePath) -> str:
    """What a path tells besides its split: its folders and name without words of splits and of any set."""
    stem = re.sub(r"[-_.]\d+[-_]of[-_]\d+.*$", "", path.stem)
    is_told = split_in_name(stem) or not re.fullmatch(r"[\W\d_]*", stem)
    parts = (*path.parts[:-1], stem if is_told else "")
    texts = [re.sub(r"^[\W_]+|[\W_]+$", "", without_split(part)) for part in parts]
    texts[-1] = re.sub(r"^[^\W\d_]$", "", texts[-1])  # train_a and train_b are parts of one set
    return "/".join(text for text in texts if {*re.findall(r"[^\W\d_]+|\d+", text.lower())} - _OF_ANY_SET)


def split_of_file(path: PurePath) -> str | None:
    """Return the split of a table by its path below the data folder: of its name, else of its folders.

    Example:
        >>> names = ("data/train-00-of-02.parquet", "dev/0.parquet", "extra-0-of-1.parquet", "0.parquet")
        >>> [split_of_file(PurePath(name)) for name in names]
        ['train', 'validation', 'extra', None]
        >>> split_of_file(PurePath("test/data-00000-of-00001.arrow"))  # as save_to_disk calls it
        'test'
        >>> split_of_file(PurePath("trainval.csv"))  # no part of another one
        'trainval'
    """
    if split := split_in_name(stem_of_shard(path.name)):
        return TRAINVAL if _word_of_split(path) == TRAINVAL else split
    stem = stem_of_shard(path.name)
    if stem not in (path.stem, "data"):
        return stem
    split = next((split for part in reversed(path.parts[:-1]) if (split := split_in_name(part))), None)
    return split or (stem if stem != path.stem else None)


def note_joined(splits: Mapping[str, Sequence[PurePath]]) -> list[str]:
    """Say which files are read as one split though they are called by different words for it, in notes.

    Args:
        splits: Files by split.

    Example:
        >>> note_joined({"validation": [PurePath("dev.csv"), PurePath("val-0.csv"), PurePath("val-1.csv")]})
        ["Joined as the split 'validation': dev.csv, val-0.csv, val-1.csv."]
    """
    return [
        f"Joined as the split '{split}': {shown([file.name for file in files])}."
        for split, files in splits.items()
        if len({_word_of_split(file) for file in files}) > 1 or len(_told_by_name(files)) > 1
    ]


def _told_by_name(files: Sequence[PurePath]) -> dict[str, list[PurePath]]:
    """The sets of the files whose own names tell their split."""
    return sets_of(file for file in files if split_in_name(stem_of_shard(file.name)))


def _word_of_split(path: PurePath) -> str:
    """The word that a file's name, or else one of its folders, tells its split by."""
    parts = (stem_of_shard(path.name), *reversed(path.parts[:-1]))
    words = (word.lower() for part in parts for word in re.findall(_WORD, with_trainval(part)))
    return next((word for word in words if word in KIND_OF), "")


def stem_of_shard(name: str) -> str:
    """Return a file name without its extension and its number among others.

    Example:
        >>> stem_of_shard("train-00000-of-00002.parquet"), stem_of_shard("photos.csv")
        ('train', 'photos')
    """
    return _SHARD.sub("", name.rpartition(".")[0] if "." in name else name)


def tells_splits(column: str) -> bool:
    """Tell by its name whether a column says of which split each row is.

    Example:
        >>> tells_splits("Split"), tells_splits("is_training"), tells_splits("set")
        (True, True, False)
    """
    return column.lower() in SPLIT_COLUMNS or bool(answers_of(column))


def answers_of(column: str) -> dict[str, str]:
    """Return what the cells of a column such as is_training mean; empty for any other column.

    Example:
        >>> answers_of("is_test")["0"], answers_of("isTrain")["true"], answers_of("is_rare")
        ('train', 'train', {})
    """
    asked = re.fullmatch(r"[iI]s_?([a-zA-Z_]+)", column)
    return _answers(split_in_name(asked[1]) if asked else None)


def is_called_as_split(column: str) -> bool:
    """Tell whether a column is called as a split, so that it may say with yes or no which rows are of it.

    Example:
        >>> is_called_as_split("train"), is_called_as_split("Validation"), is_called_as_split("is_train")
        (True, True, False)
        >>> is_called_as_split("valid")  # a picture may be
        False
    """
    return fold(column) in KIND_OF and fold(column) != "valid"


def _answers(split: str | None) -> dict[str, str]:
    if split not in _OTHER:
        return {}
    return dict.fromkeys(("1", "true", "yes"), split) | dict.fromkeys(("0", "false", "no"), _OTHER[split])


def kinds_of_cells(column: str, cells: Iterable[str]) -> dict[str, str]:
    """Return the split that each cell of a column stands for; "" where it stands for none.

    Where one cell is the word of a test itself, longer ones such as id_test are splits of their own.

    Example:
        >>> kinds_of_cells("split", ["train", "val", "3"])
        {'3': '', 'train': 'train', 'val': 'validation'}
        >>> kinds_of_cells("split", ["test", "id_test"]), kinds_of_cells("split", ["PrivateTest"])
        ({'id_test': 'id_test', 'test': 'test'}, {'PrivateTest': 'test'})
    """
    cells = set(cells)
    bare = _answers(KIND_OF[fold(column)] if is_called_as_split(column) else None)
    answers = bare if {cell.lower() for cell in cells} <= bare.keys() else answers_of(column)
    kinds = {cell: answers.get(cell.lower()) or split_in_name(cell) or "" for cell in sorted(cells)}
    words = {kind for cell, kind in kinds.items() if fold(cell) in KIND_OF and kind != "train"}
    return {
        cell: cell if kind in words and fold(cell) not in KIND_OF else kind for cell, kind in kinds.items()
    }


def may_be_splits(column: str, cells: Iterable[str]) -> bool:
    """Tell whether a column is called as one of sets and holds a few words, one of them that of a split.

    Example:
        >>> may_be_splits("Menge", ["Lernen", "Test", "Lernen"]), may_be_splits("stage", ["1", "2"])
        (True, False)
        >>> may_be_splits("set", ["tr", "te"]), may_be_splits("set", ["north", "south"])
        (True, False)
    """
    words = set(cells)
    is_split = any(split_in_name(word) or fold(word) in _ABROAD for word in words)
    are_words = all(re.search(r"[^\W\d_]{2}", word) for word in words)
    return fold(column) in _CALLED_SETS and 2 <= len(words) <= MOST_UNKNOWN and are_words and is_split


def note_other_splits(column: str, columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Say which columns tell other splits than the one that is read.

    Args:
        column: Name of that one.
        columns: Cells of it and of the others, which may tell none.

    Example:
        >>> note_other_splits("split", {"split": ["train", "test"], "more": ["test", "train"]})
        ["Column 'more' tells other splits than 'split', and is not read: take 'split' away to read it."]
    """
    few = {name: cells for name, cells in columns.items() if len(set(cells)) <= MOST_SPLITS or name == column}
    kinds = {name: kinds_of_cells(name, cells) for name, cells in few.items()}
    splits = {name: [kinds[name][cell] for cell in cells] for name, cells in few.items()}
    return [
        f"Column '{name}' tells other splits than '{column}', and is not read: take '{column}' away to read "
        "it."
        for name, own in splits.items()
        if own != splits[column] and "" not in own and len(set(own)) > 1
    ]


def rows_of_splits(
    column: str, cells: Sequence[str], whole: str, *, is_told: bool = False
) -> dict[str, list[int]]:
    """Sort rows into the splits that the cells of a column tell.

    Args:
        column: Its name.
        cells: Its cells; "" where one is empty.
        whole: Name of the split that all rows are of where the column tells none.
        is_told: Whether the user has said that all rows are of that split.

    Returns:
        Rows by split; none where the column tells no two splits.

    Raises:
        DatasetError: It seems to tell splits, and does not of every row.

    Example:
        >>> rows_of_splits("phase", ["train", "test", "train"], "train")
        {'train': [0, 2], 'test': [1]}
        >>> rows_of_splits("sex", ["female", "male"], "train")
        {}
    """
    kinds = kinds_of_cells(column, cells)
    splits: dict[str, list[int]] = {}
    for row, cell in enumerate(cells):
        splits.setdefault(kinds[cell], []).append(row)
    odd = splits.pop("", [])
    is_meant = tells_splits(column) or (len(splits) > 1 and 2 * len(odd) < len(cells))
    is_meant |= not is_label(column) and any(fold(cell) in _TEST_WORDS for cell in kinds)
    if odd and is_meant and any(cells) and len(kinds) <= MOST_SPLITS and not is_told:
        found = quoted(sorted({cells[row] for row in odd}), 8)
        raise DatasetError(
            f"Column '{column}' looks like the split of each image, but {len(odd):,} of {len(cells):,} rows "
            f"hold {found}.\nExpected train, test or validation in every row.\n"
            f'Where it is no split: `train_split="{whole}"` reads every row as one to train on.'
        )
    if odd or len(splits) < 2:
        return {}
    tested = len(splits.get("validation", ()))
    if re.fullmatch("(is_?)?valid", column.lower()) and 2 * tested > len(cells):
        if is_told:
            return {}
        raise DatasetError(
            f"Column '{column}' says yes for {tested:,} of {len(cells):,} rows: are they for validation, or "
            "sound?\nWhere they are for validation, call the column 'is_validation'.\n"
            f'Where it is no split: `train_split="{whole}"` reads every row as one to train on.'
        )
    return splits
