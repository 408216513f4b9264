"""Read what `datasets` reads by itself: folders of `save_to_disk`, and WebDataset archives."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lort_hub.data.tables.splits import split_in_name
from lort_hub.errors import DatasetError
from lort_hub.files import cache_folder
from lort_hub.shorten import shown

if TYPE_CHECKING:
    import datasets

ADVICE = {
    "invalid literal for int()": "A .cls member is a whole number: call members that hold the name of "
    "a class .txt, or unpack them into folders, CLASS/*.jpg.",
    "don't share the same prefix": "Each sample needs members of the same types: write all pictures as one "
    "type, or unpack them into folders, CLASS/*.jpg.",
}
"""What to do about what `datasets` cannot read, by words of its reason."""


def is_saved_to_disk(folder: Path) -> bool:
    """Return whether `save_to_disk` of `datasets` has written a folder.

    Example:
        >>> is_saved_to_disk(Path("/nonexistent"))
        False
    """
    one = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return one or (folder / "dataset_dict.json").is_file()


def find_saved(folder: Path) -> Path | None:
    """Find what `save_to_disk` has written: the folder itself, or one in it that is no split of a set.

    Raises:
        DatasetError: There are several.

    Example:
        >>> import tempfile
        >>> find_saved(Path(tempfile.mkdtemp())) is None
        True
    """
    if is_saved_to_disk(folder):
        return folder
    saved = [path for path in sorted(folder.iterdir()) if is_saved_to_disk(path)]
    if saved and all(split_in_name(path.name) for path in saved):
        return None
    if len(saved) > 1:
        raise DatasetError(
            f"'{folder}' holds {len(saved)} data sets: {shown([path.name for path in saved])}.\n"
            f'Give one of them: `dataset="{saved[0]}"`.'
        )
    return saved[0] if saved else None


def read_saved(folder: Path) -> dict[str, datasets.Dataset]:
    """Read what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` has written.

    Args:
        folder: The folder.

    Returns:
        Rows by split; those of a single `Dataset` are the training split.

    Raises:
        DatasetError: It is damaged.

    Example:
        >>> import datasets, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> datasets.Dataset.from_dict({"image": [b""], "label": [0]}).save_to_disk(folder)
        >>> {split: len(rows) for split, rows in read_saved(folder).items()}
        {'train': 1}
    """
    import datasets

    try:
        opened = datasets.load_from_disk(str(_without_colons(folder)))
    except Exception as cause:  # whatever a damaged folder makes the library raise
        raise DatasetError(
            f"Cannot read '{folder}' as save_to_disk writes it: {type(cause).__name__}: {cause}"
        ) from cause
    return dict(opened) if isinstance(opened, datasets.DatasetDict) else {"train": opened}


def read_webdataset(files: Sequence[Path]) -> datasets.Dataset:
    """Read WebDataset archives, whose members with one stem are the columns of a row.

    Args:
        files: The .tar files, in order.

    Raises:
        DatasetError: They are damaged, or their rows have different columns.

    Example:
        >>> read_webdataset([Path("train-000000.tar")])  # doctest: +SKIP
        Dataset({features: ['jpg', 'cls'], num_rows: 1000})
    """
    import datasets

    paths = [glob.escape(str(_without_colons(file.parent) / file.name)) for file in files]
    try:
        rows = datasets.load_dataset("webdataset", data_files={"train": paths}, split="train")
    except Exception as cause:  # whatever a stranger's archive makes the library raise
        reason = str(cause.__cause__ or cause).splitlines()[0]
        advice = next((advice for words, advice in ADVICE.items() if words in reason), "")
        raise DatasetError(
            f"Cannot read '{files[0]}' as WebDataset shards: {reason.rstrip('.')}.\n{advice}".rstrip()
        ) from cause
    kinds = rows.features.items()
    records = [name for name, kind in kinds if isinstance(kind, dict) and "bytes" not in kind]
    return rows.flatten() if records else rows


def _without_colons(folder: Path) -> Path:
    """A link to a folder whose path has `::` in it, which `datasets` takes for a chain of file systems."""
    if "::" not in str(folder.resolve()):
        return folder
    link = cache_folder("links") / hashlib.sha256(bytes(folder.resolve())).hexdigest()[:32]
    with suppress(FileExistsError):
        link.symlink_to(folder.resolve(), target_is_directory=True)
    return link
