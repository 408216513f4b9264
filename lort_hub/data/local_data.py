"""Open a local folder or file of any layout: tables, lists of image files, archives, class folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lort_hub.data.archives import is_archive, unpack
from lort_hub.data.copied_files import files_once, read_shards, read_tables
from lort_hub.data.decoding import image_suffixes
from lort_hub.data.formats import advice_on
from lort_hub.data.hub_cache import find_snapshot
from lort_hub.data.image_folder.names import TESTS, TRAINVAL
from lort_hub.data.image_folder.read import read_image_folder
from lort_hub.data.image_folder.tree import is_no_data, is_output, list_pictures
from lort_hub.data.published_lists import may_tell_splits
from lort_hub.data.published_splits import folder_of_names, note_unread, open_published
from lort_hub.data.published_tables import open_labels
from lort_hub.data.refusals import nothing_to_read, refuse_folders, refuse_output, with_files_beside
from lort_hub.data.request import Opened, Request
from lort_hub.data.shards import by_pattern, files_by_split, note_shards
from lort_hub.data.spec import script_error
from lort_hub.data.table_files import split_lists, table_files
from lort_hub.data.table_logs import LOG, current_files
from lort_hub.data.tables.column_names import may_be_called_label
from lort_hub.data.tables.columns import holds_bytes
from lort_hub.data.tables.configurations import (
    Configuration,
    choose_configuration,
    note_readme_splits,
    read_card,
    sets_by_name,
    with_names,
)
from lort_hub.data.tables.encoded import TABLES, has_images, read_table
from lort_hub.data.tables.image_files import ImageFiles
from lort_hub.data.tables.listed import open_lists
from lort_hub.data.tables.lists import LISTS
from lort_hub.data.tables.saved import find_saved, read_saved, read_webdataset
from lort_hub.data.tables.splits import (
    set_in_name,
    split_in_name,
    split_of_file,
    stem_of_shard,
    without_split,
)
from lort_hub.data.tables.training_lists import note_one_class_each
from lort_hub.data.tables.unnamed import check_pictures_beside
from lort_hub.data.webdatasets import webdatasets
from lort_hub.errors import DatasetError
from lort_hub.shorten import shown

if TYPE_CHECKING:
    import datasets


def open_folder(folder: Path, request: Request) -> Opened | None:
    """Open a folder as tables, as lists of image files or as archives of them.

    Args:
        folder: The folder.
        request: The arguments of `load_long_tailed`.

    Returns:
        Its rows; None where it holds no tables, so that class folders are what is left.

    Raises:
        DatasetError: Tables that cannot be read, or that contradict the class folders.

    Example:
        >>> import datasets, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = datasets.Dataset.from_dict({"image": [b""], "label": [0]})
        >>> _ = rows.to_parquet(folder / "train.parquet")
        >>> list(open_folder(folder, Request(str(folder))).splits)
        ['train']
    """
    if saved := find_saved(folder):
        return Opened(read_saved(saved))
    files = [file for file in table_files(folder) if LOG not in file.relative_to(folder).parts]
    if (script := folder / f"{folder.name}.py").is_file() and not any(
        file.suffix == ".parquet" for file in files
    ):
        raise script_error(request.spec, script.name)
    names = [file.relative_to(folder).as_posix() for file in files]
    if request.configuration in sets_by_name(names):
        names = [name for name in names if name.endswith(TABLES)]
        names = [name for name in names if has_images(folder / name, request.image_column)]
    configuration = choose_configuration(read_card(folder), names, request.configuration, request.spec)
    folder = folder / configuration.folder
    own = [file for file in files if file.is_relative_to(folder)]
    return _open_tables(own, folder, configuration, request)


def _open_tables(
    files: Sequence[Path], folder: Path, configuration: Configuration, request: Request
) -> Opened | None:
    tables = [file for file in files if file.suffix.lower() in TABLES]
    encoded = [file for file in tables if has_images(file, request.image_column)]
    if encoded:
        encoded, left_out = current_files(encoded, folder)
        splits, notes = files_by_split(encoded, folder, configuration, request)
        notes[:0] = left_out
        parts = {name: read_tables(of, request, configuration.features) for name, of in splits.items()}
        notes += [note for _, of_split in parts.values() for note in of_split]
        if not request.label_column:
            for name, (rows, _) in parts.items():
                notes += _note_told(splits[name], rows, folder)
        opened = Opened({name: rows for name, (rows, _) in parts.items()}, notes)
        notes += check_pictures_beside(opened, folder, request)
        return opened
    if shards := webdatasets(files, request.label_column):
        splits, notes = files_by_split(shards, folder, configuration, request)
        if left := [file.name for file in files if is_archive(file) and file not in shards]:
            notes.append(f"Archives beside WebDataset shards that were not read: {shown(left)}.")
        opened = Opened({name: read_shards(of) for name, of in splits.items()}, notes)
        notes += check_pictures_beside(opened, folder, request)
        return opened
    lists = [file for file in files if file.suffix.lower() in LISTS]
    archives = [file for file in files if is_archive(file) and file.parent == folder]
    splits = by_pattern(lists + tables, folder, configuration)
    by_card = {file: split for split, of in splits.items() for file in of}
    listed = [*by_card] or lists + tables
    if len(splits) == 1 and any(split_of_file(file.relative_to(folder)) in TESTS for file in listed):
        by_card = {}  # "*.csv" for train and test
    read = open_lists(listed, folder, request, archives=archives, by_card=by_card)
    if read:
        current, left_out = current_files(read.lists, folder)
        if old := set(read.lists) - set(current):
            read = _open_tables([file for file in files if file not in old], folder, configuration, request)
            if read:
                read.notes[:0] = left_out
        if read:
            read.splits = with_names(read.splits, configuration.features)
        return read
    read = _open_archives(archives, folder, request)
    if read or not tables or ImageFiles([folder]).files:
        return read
    return Opened({"train": read_table(tables)})  # for what is said of tables without images


def _note_told(files: Sequence[Path], rows: datasets.Dataset, folder: Path) -> list[str]:
    """Notes of tables whose names may tell the classes; refuse folders such as label=ant of no column."""
    import datasets

    if any(isinstance(kind, datasets.ClassLabel) for kind in rows.features.values()):
        return []
    columns = [name for name, kind in rows.features.items() if not holds_bytes(kind)]
    parts = {part for file in files for part in file.relative_to(folder).parts[:-1] if "=" in part}
    lost = sorted(part for part in parts if part.split("=")[0] not in columns and not split_in_name(part))
    lost = [part for part in lost if not columns or may_be_called_label(part.split("=")[0])]
    if lost and not any(map(may_be_called_label, columns)):
        raise DatasetError(
            f"The folders {shown(lost, 3)} of '{folder}' tell a column that its tables do not have.\n"
            "Write it into them, one split at a time: pandas.read_parquet(SPLIT).to_parquet('SPLIT.parquet')."
        )
    return note_one_class_each([file.name for file in files], columns)


def _open_archives(archives: Sequence[Path], folder: Path, request: Request) -> Opened | None:
    if not archives or ImageFiles([folder]).files:
        return None
    opened = open_any(unpack(archives), request, beside=folder)
    opened.notes.append(
        f"Read from the cache, where {shown([path.name for path in archives])} were unpacked."
    )
    return opened


def open_any(
    folder: Path, request: Request, *, beside: Path | None = None, lists: Sequence[Path] = ()
) -> Opened:
    """Open a folder as tables, else by its class folders.

    Args:
        folder: The folder.
        request: The arguments of `load_long_tailed`.
        beside: The folder of the archives that it was unpacked from, where lists may tell its splits.
        lists: Lists beside the one archive that it was unpacked from, which may tell its splits.

    Raises:
        DatasetError: It holds no data set, or one that can be read in two ways.

    Example:
        >>> open_any(Path("photos"), Request("photos"))  # doctest: +SKIP
        Opened(splits={'train': Dataset(...), 'test': Dataset(...)}, notes=[])
    """
    if is_output(str(folder)) and not list_pictures(str(folder)).filled:
        refuse_output(folder)
    folder, notes = find_snapshot(folder)
    if opened := open_folder(folder, request):
        opened.notes[:0] = notes
        if opened.folders and beside:
            opened.folders = (*opened.folders, beside)
        return opened
    configuration = choose_configuration(read_card(folder), [], request.configuration, request.spec)
    inner = folder / configuration.folder
    if inner.is_dir():
        folder = inner
    else:
        lost = f"README.md names a folder as its `data_dir` that is not there: '{inner}'."
        if not any(one.is_dir() and not is_no_data(one.name) for one in folder.iterdir()):
            raise DatasetError(f"{lost}\nDownload it, or take the line out of README.md.")
        notes.append(f"{lost} The other folders are read.")
    if request.label_column:
        refuse_folders(folder, request.label_column)
    lists_of_splits: list[Path] = []
    if request.train_split is None:
        lists_of_splits = split_lists(folder) or (split_lists(beside) if beside else [])
        lists = lists_of_splits or lists
    if opened := open_published(folder, lists if request.train_split is None else [], request):
        opened.notes[:0] = notes
        return opened
    options = {name: getattr(request, name) for name in ("train_split", "test_split", "class_folder")}
    reading, refusal = None, None
    try:
        reading = read_image_folder(folder, **options)
    except DatasetError as error:
        refusal = error
    if reading is None:
        if opened := open_labels(folder, request):
            opened.notes[:0] = notes
            return opened
        raise (
            with_files_beside(refusal, folder, request) if refusal else nothing_to_read(folder, request)
        ) from None
    splits = {reading.train_split: reading.train}
    if reading.test is not None and reading.test_split is not None:
        splits[reading.test_split] = reading.test
    notes += [*reading.lines(), *note_readme_splits(configuration, splits, reading.folder)]
    if len(splits) < 2:
        notes += note_unread(lists_of_splits, reading)
    return Opened(splits, notes, reading.record(), (reading.train_split, reading.test_split))


def open_file(file: Path, request: Request) -> Opened:
    """Open a file: a table with the other splits beside it, a list of image files, or an archive.

    Args:
        file: The file.
        request: The arguments of `load_long_tailed`.

    Raises:
        DatasetError: It is none of these.

    Example:
        >>> import datasets, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "train.parquet"
        >>> _ = datasets.Dataset.from_dict({"image": [b""], "label": [0]}).to_parquet(file)
        >>> list(open_file(file, Request(str(file))).splits)
        ['train']
    """
    suffix, folder = file.suffix.lower(), file.parent
    beside = [path for path in sorted(folder.iterdir()) if path.suffix.lower() == suffix and path != file]
    others: dict[str, list[Path]] = {}
    for path in beside:
        split = split_in_name(stem_of_shard(path.name))
        if split in TESTS and "submission" not in path.name.lower():
            others.setdefault(split, []).append(path)
    if split_of_file(Path(file.name)) == TRAINVAL:
        others.pop("validation", None)  # which it holds
    others, notes = _of_one_set(file, others)
    if suffix in TABLES and has_images(file, request.image_column):
        shards = [path for path in beside if stem_of_shard(path.name) == stem_of_shard(file.name)]
        splits = {"train": sorted([file, *shards]), **others}
        read = {name: read_tables(files_once(files), request) for name, files in splits.items()}
        notes += [note for _, of_split in read.values() for note in of_split]
        notes += [note for name, files in splits.items() for note in note_shards(name, files)]
        return Opened({name: rows for name, (rows, _) in read.items()}, notes)
    if suffix in LISTS and not request.label_column:
        asked = [request.image_root, folder / request.image_root] if request.image_root else []
        root = next((path for path in asked if path.is_dir()), None) or folder_of_names(file)
        set_of = [path for path in beside if without_split(path.name) == without_split(file.name)]
        if opened := open_published(root, [file, *set_of], request, only=True):
            return opened
    if suffix in (*LISTS, *TABLES):
        lists = [file, *(path for split in others.values() for path in split)]
        opened = open_lists(lists, folder, request, only=True) or Opened({"train": read_table([file])})
        opened.notes += notes
        return opened
    if webdatasets([file], request.label_column):
        return Opened({"train": read_webdataset([file])}, note_shards("train", [file]))
    if is_archive(file):
        lists = [path for path in folder.iterdir() if path.suffix.lower() in LISTS and may_tell_splits(path)]
        return open_any(unpack([file]), request, lists=sorted(lists))
    if suffix in image_suffixes():
        raise DatasetError(
            f"'{file}' is a single image.\n"
            "A data set is a folder with the images of each class in a folder: train/CLASS/*.jpg."
        )
    raise DatasetError(
        f"'{file}' is a file that is not read as a data set. {advice_on([file.name])}".rstrip()
        + "\nExpected a folder, a .parquet, .arrow, .csv, .tsv, .json or .jsonl table, a .txt list of "
        "images, or an archive."
    )


def _of_one_set(file: Path, others: dict[str, list[Path]]) -> tuple[dict[str, list[Path]], list[str]]:
    """The test files that are called as of the set of a training file; where none is, all, and a note."""
    wanted = set_in_name(stem_of_shard(file.name))
    own = {}
    for split, files in others.items():
        sets_of = {path: set_in_name(stem_of_shard(path.name)) for path in files}
        own[split] = [path for path in files if sets_of[path] == wanted] or [
            path for path in files if not sets_of[path]
        ]
    if any(own.values()):
        return {split: files for split, files in own.items() if files}, []
    sets = {set_in_name(stem_of_shard(path.name)) for files in others.values() for path in files}
    names = [path.name for files in others.values() for path in files]
    notes = (
        [f"Read as the test of {file.name}, though called otherwise: {shown(names)}."]
        if len(sets) > 1
        else []
    )
    return others, notes
