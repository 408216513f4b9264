"""Read tables of encoded images: parquet files, WebDataset archives and what `save_to_disk` has written."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lort_hub.data.tables.labels import agree, code_labels
from lort_hub.errors import DatasetError
from lort_hub.files import cache_folder

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

BATCH = 1000
"""Rows of a parquet file that are in memory at once."""


def is_saved_to_disk(folder: Path) -> bool:
    """Return whether `save_to_disk` of `datasets` has written a folder.

    Example:
        >>> is_saved_to_disk(Path("/nonexistent"))
        False
    """
    one = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return one or (folder / "dataset_dict.json").is_file()


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
        opened = datasets.load_from_disk(str(folder))
    except Exception as cause:  # whatever a damaged folder makes the library raise
        raise DatasetError(
            f"Cannot read '{folder}' as save_to_disk writes it: {type(cause).__name__}: {cause}"
        ) from cause
    return dict(opened) if isinstance(opened, datasets.DatasetDict) else {"train": opened}


def has_images(file: Path, column: str | None = None) -> bool:
    """Return whether a parquet file has a column of encoded images, or the named one is such a column.

    Args:
        file: The file.
        column: Name of the image column, or None.

    Raises:
        DatasetError: It is damaged.

    Example:
        >>> import datasets, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "train.parquet"
        >>> _ = datasets.Dataset.from_dict({"image": [b""], "label": [0]}).to_parquet(file)
        >>> has_images(file)
        True
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pyarrow.types as types

    try:
        schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as cause:
        raise DatasetError(f"Cannot read '{file}': {str(cause).splitlines()[0]}") from cause
    names = [column] if column in schema.names else schema.names
    kinds = [_plain_type(schema.field(name).type) for name in names]
    while any(types.is_list(kind) for kind in kinds):
        kinds = [kind.value_type if types.is_list(kind) else kind for kind in kinds]
    return any(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or (types.is_struct(kind) and kind.get_field_index("bytes") >= 0)
        for kind in kinds
    )


def read_parquet(files: Sequence[Path], features: datasets.Features | None = None) -> datasets.Dataset:
    """Read parquet files as the rows of one table, whose label names agree by name.

    Each file is copied into the cache, uncompressed, once, so that rows are read from disk where they are
    needed.

    Args:
        files: The files, in order.
        features: Types of the columns where a file does not say them itself; None to see them.

    Raises:
        DatasetError: A file is damaged, or the files do not belong together.

    Example:
        >>> import datasets, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "train.parquet"
        >>> _ = datasets.Dataset.from_dict({"image": [b""], "label": [0]}).to_parquet(file)
        >>> read_parquet([file]).column_names
        ['image', 'label']
    """
    return join([_read_file(file, features) for file in files], [str(file) for file in files])


def _read_file(file: Path, features: datasets.Features | None) -> datasets.Dataset:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            found = _features(parquet.schema_arrow, features)
            state = f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns} {found}"
            copy = cache_folder("tables") / f"{hashlib.sha256(state.encode()).hexdigest()[:32]}.arrow"
            if not copy.exists():
                _copy(parquet, found.arrow_schema, copy)
    except (pa.ArrowException, OSError, ValueError, KeyError) as cause:
        if isinstance(cause, OSError) and cause.errno is not None:
            raise  # of the machine; a damaged file's have no number
        raise DatasetError(f"Cannot read '{file}': {str(cause).splitlines()[0]}") from cause
    return _with_files_beside(datasets.Dataset.from_file(str(copy)), file.parent)


def _with_files_beside(rows: datasets.Dataset, folder: Path) -> datasets.Dataset:
    """The rows with whole paths of images that are kept as files beside the table."""
    import datasets

    for name, kind in rows.features.items():
        if not isinstance(kind, datasets.Image) and not (
            isinstance(kind, dict) and {*kind} == {"bytes", "path"}
        ):
            continue
        raw = rows.cast_column(name, datasets.Image(decode=False))
        first = raw[0][name] if len(raw) else None
        if first and first["bytes"] is None and first["path"] and (folder / first["path"]).is_file():
            cells = [
                {"bytes": one["bytes"], "path": str(folder / one["path"])} if one and one["path"] else one
                for one in raw[name][:]
            ]
            rows = rows.remove_columns(name).add_column(name, cells, feature=datasets.Image())
    return rows


def _copy(parquet: Any, schema: pa.Schema, copy: Path) -> None:
    """Write a parquet file as Arrow, whole or not at all."""
    import pyarrow as pa
    from datasets.table import table_cast

    temporary = copy.with_name(f"{copy.name}.{uuid4().hex}.tmp")
    try:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for batch in parquet.iter_batches(BATCH):
                table = pa.Table.from_batches([batch])
                plain = table.cast(pa.schema([_plain_field(field) for field in table.schema]))
                writer.write_table(table_cast(plain, schema))
        os.replace(temporary, copy)  # noqa: PTH105
    finally:
        temporary.unlink(missing_ok=True)


def _features(schema: pa.Schema, fallback: datasets.Features | None) -> datasets.Features:
    """Types of a file's columns: as `datasets` wrote them into it, else as they are, without variants."""
    import datasets
    import pyarrow as pa

    plain = pa.schema([_plain_field(field) for field in schema], schema.metadata)
    found = datasets.Features.from_arrow_schema(plain)
    written = b"huggingface" in (schema.metadata or {})
    if fallback is not None and not written and set(fallback) == set(found):
        return datasets.Features({name: fallback[name] for name in found})
    return found


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain_type(field.type))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The plain form of a type: no dictionaries, no views, one width of whole numbers and of floats."""
    import pyarrow as pa
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_string_view(kind) or types.is_large_string(kind):
        return pa.string()
    if types.is_binary_view(kind) or types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_integer(kind):
        return pa.int64()
    if types.is_floating(kind) or types.is_decimal(kind):
        return pa.float64()
    if types.is_struct(kind):
        return pa.struct([_plain_field(kind.field(k)) for k in range(kind.num_fields)])
    return kind


def join(parts: Sequence[datasets.Dataset], places: Sequence[str]) -> datasets.Dataset:
    """Join the rows of several files; label names agree by name, columns that not all have are left out.

    Args:
        parts: Rows of each file, at least one.
        places: Where each is from, for messages.

    Raises:
        DatasetError: The files have no column in common, or label names that have nothing in common.

    Example:
        >>> import datasets
        >>> one = datasets.Dataset.from_dict({"image": [b""], "label": ["ant"]})
        >>> len(join([one, one], ["a.parquet", "b.parquet"]))
        2
    """
    import datasets

    if len(parts) == 1:
        return parts[0]
    columns = [name for name in parts[0].column_names if all(name in part.column_names for part in parts)]
    if not columns:
        raise DatasetError(
            f"'{places[0]}' and '{places[-1]}' have no column in common, so they are no parts of one table."
        )
    parts = [part.select_columns(columns) for part in parts]
    for name in columns:
        kinds = [part.features[name] for part in parts]
        if any(kind != kinds[0] for kind in kinds):
            parts = _with_one_kind(parts, places, name)
    return datasets.concatenate_datasets(parts)


def _with_one_kind(parts: Sequence[Any], places: Sequence[str], name: str) -> list[Any]:
    """The parts with one type of a column in which they differ, such as class labels in another order."""
    import datasets

    kinds = [part.features[name] for part in parts]
    if any(isinstance(kind, datasets.Image) for kind in kinds):
        return [part.cast_column(name, datasets.Image(decode=False)) for part in parts]
    labels = [code_labels(part, name) for part in parts]
    whole = agree(labels, places)
    ends = [sum(len(part) for part in parts[: k + 1]) for k in range(len(parts))]
    kind = datasets.ClassLabel(names=list(whole.names))
    return [
        part.remove_columns(name).add_column(name, whole.codes[end - len(part) : end], feature=kind)
        for part, end in zip(parts, ends, strict=True)
    ]


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

    paths = [glob.escape(str(file)) for file in files]
    try:
        rows = datasets.load_dataset("webdataset", data_files={"train": paths}, split="train")
    except Exception as cause:  # whatever a stranger's archive makes the library raise
        reason = str(cause.__cause__ or cause).splitlines()[0]
        raise DatasetError(f"Cannot read '{files[0]}' as WebDataset shards: {reason}") from cause
    kinds = rows.features.items()
    records = [name for name, kind in kinds if isinstance(kind, dict) and "bytes" not in kind]
    return rows.flatten() if records else rows
