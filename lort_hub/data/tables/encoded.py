"""Read tables of encoded images: parquet files, and Arrow files, which Feather files are too."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from lort_hub.data.decoding import opens
from lort_hub.data.formats import LFS_POINTER, is_lfs_pointer
from lort_hub.data.tables.joined import join
from lort_hub.errors import DatasetError
from lort_hub.files import cache_folder

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

TABLES = (".parquet", ".arrow", ".feather")
BATCH = 1000
"""Rows of a parquet file that are in memory at once."""


def has_images(file: Path, column: str | None = None) -> bool:
    """Return whether a table has a column of encoded images, or the named one is such a column.

    Args:
        file: The file.
        column: Name of the image column, or None.

    Raises:
        DatasetError: It is damaged.

    Example:
        >>> import datasets, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "train.parquet"
        >>> _ = datasets.Dataset.from_dict({"image": [b""], "label": [0]}).to_parquet(file)
        >>> has_images(file, "image"), has_images(file)  # no image is empty
        (True, False)
    """
    import pyarrow.types as types

    with _opened(file) as (schema, batches):
        names = [column] if column in schema.names else schema.names
        kinds = {name: _plain_type(schema.field(name).type) for name in names}
        for name, kind in kinds.items():
            while types.is_list(kind):
                kind = kind.value_type
            kinds[name] = kind
        structs = [
            kind for kind in kinds.values() if types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        ]
        encoded = [
            name for name, kind in kinds.items() if types.is_binary(kind) or types.is_large_binary(kind)
        ]
        if structs or (encoded and column in encoded):
            return True
        first = next(iter(batches), None) if encoded else None
        return first is not None and any(_holds_images(first.column(name)) for name in encoded)


def _holds_images(cells: pa.Array) -> bool:
    """Whether Pillow knows the first of some cells of bytes."""
    cell = next((cell for cell in cells.slice(0, 20).to_pylist() if cell), None)
    while isinstance(cell, list):
        cell = cell[0] if cell else None
    return cell is not None and opens(cell)


def read_table(files: Sequence[Path], features: datasets.Features | None = None) -> datasets.Dataset:
    """Read parquet or Arrow files as the rows of one table, whose label names agree by name.

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
        >>> read_table([file]).column_names
        ['image', 'label']
    """
    return join([_read_file(file, features) for file in files], [str(file) for file in files])


@contextmanager
def _opened(file: Path) -> Iterator[tuple[pa.Schema, Iterable[pa.RecordBatch]]]:
    """The schema and the batches of a file, as long as it is open."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix.lower() == ".parquet":
            with pq.ParquetFile(file) as parquet:
                schema, batches = parquet.schema_arrow, parquet.iter_batches(BATCH)
                _check_names(file, schema)
                yield schema, batches
        else:
            with pa.memory_map(str(file)) as source:
                is_stream = source.read(6) != b"ARROW1"
                source.seek(0)
                reader = pa.ipc.open_stream(source) if is_stream else pa.ipc.open_file(source)
                numbers = range(0 if is_stream else reader.num_record_batches)
                _check_names(file, reader.schema)
                yield reader.schema, reader if is_stream else map(reader.get_batch, numbers)
    except (pa.ArrowException, OSError, ValueError, KeyError) as cause:
        if isinstance(cause, OSError) and cause.errno is not None:
            raise  # of the machine; a damaged file's have no number
        reason = str(cause).splitlines()[0]
        if is_lfs_pointer(file):
            reason = LFS_POINTER
        raise DatasetError(f"Cannot read '{file}': {reason}") from cause


def _check_names(file: Path, schema: pa.Schema) -> None:
    if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
        raise DatasetError(f"'{file}' has several columns called '{twice[0]}'.\nGive each a name of its own.")


def _read_file(file: Path, features: datasets.Features | None) -> datasets.Dataset:
    import datasets

    with _opened(file) as (schema, batches):
        kinds = _features(schema, features)
        state = f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns} {kinds}"
        copy = cache_folder("tables") / f"{hashlib.sha256(state.encode()).hexdigest()[:32]}.arrow"
        if not copy.exists():
            _copy(batches, kinds.arrow_schema, copy)
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


def _copy(batches: Iterable[pa.RecordBatch], schema: pa.Schema, copy: Path) -> None:
    """Write a table as Arrow, whole or not at all."""
    import pyarrow as pa
    from datasets.table import table_cast

    temporary = copy.with_name(f"{copy.name}.{uuid4().hex}.tmp")
    try:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for batch in batches:
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
    kinds = datasets.Features.from_arrow_schema(plain)
    written = b"huggingface" in (schema.metadata or {})
    if fallback is not None and not written and set(fallback) == set(kinds):
        return datasets.Features({name: fallback[name] for name in kinds})
    return kinds


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
