"""Unpack zip and tar archives of pictures into the cache: once, whole or not at all, and nowhere else."""

from __future__ import annotations

import filecmp
import gzip
import hashlib
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from uuid import uuid4

from lort_hub.data.decoding import image_suffixes
from lort_hub.data.image_folder.names import kind_of
from lort_hub.data.image_folder.tree import SYSTEM_FILES
from lort_hub.data.tables.lists import LISTS
from lort_hub.data.tables.splits import split_in_name
from lort_hub.errors import CheckpointError, DatasetError
from lort_hub.files import cache_folder, sha256

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
MOST_LETTERS = 60
"""Letters of an archive's name that the folder in the cache is called by."""


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive, by its name.

    Example:
        >>> is_archive(Path("photos.tar.gz")), is_archive(Path("photos.gz"))
        (True, False)
    """
    return path.name.lower().endswith(ARCHIVES)


def unpack(archives: Sequence[Path]) -> Path:
    """Unpack archives into one folder of the cache, or return the folder where that was done before.

    Of several archives, train.zip becomes train/ in it, and ant.zip and bee.zip, where they hold pictures
    alone, become ant/ and bee/; what a folder holds alone is lifted out of it.

    Args:
        archives: The archives.

    Returns:
        The folder.

    Raises:
        DatasetError: An archive is damaged, encrypted, or holds paths that lead out of it; or two hold
            different files of one name.
        CheckpointError: The disk has no room for it.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "photos.zip"
        >>> with zipfile.ZipFile(file, "w") as archive:
        ...     archive.writestr("photos/train/ant/0.txt", "")
        >>> [path.name for path in unpack([file]).iterdir()]
        ['train']
    """
    digest = hashlib.sha256()
    for archive in archives:
        digest.update(f"{archive.name} {_content_key(archive)} ".encode())
    name = stem_of(archives[0]) if len(archives) == 1 else archives[0].parent.name
    folder = cache_folder("archives") / f"{name[:MOST_LETTERS]}-{digest.hexdigest()[:16]}"
    if not folder.exists():
        staged = folder.with_name(f"{folder.name}.{uuid4().hex}.tmp")
        try:
            if len(archives) == 1:
                _unpack(archives[0], staged)
            else:
                _unpack_all(archives, staged)
            if not any(staged.iterdir()):
                raise DatasetError(f"'{archives[0]}' is empty: there is nothing to unpack.")
            _lift(staged)
            with suppress(OSError):  # another process was faster
                staged.rename(folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return folder


def _unpack_all(archives: Sequence[Path], folder: Path) -> None:
    """Unpack several archives into the folders that their names tell, and refuse those that do not fit."""
    parts = {archive: folder / uuid4().hex for archive in archives}
    for archive, part in parts.items():
        _unpack(archive, part)
    are_classes = _are_classes(parts)
    for archive, part in parts.items():
        split = split_in_name(stem_of(archive))
        _move(archive, part, folder / (stem_of(archive) if are_classes else split or ""))
        shutil.rmtree(part)


def _are_classes(parts: Mapping[Path, Path]) -> bool:
    """Whether each archive is called as a class: they hold pictures alone, and no name tells a split."""
    names = [stem_of(archive) for archive in parts]
    every = [path for part in parts.values() for path in part.iterdir()]
    contents = [path for path in every if path.name.lower() not in SYSTEM_FILES]
    are_heaps = all(path.suffix.lower() in image_suffixes() and path.is_file() for path in contents)
    are_told_apart = len({re.sub(r"[\W\d_]+", "", name.lower()) for name in names} - {""}) == len(names)
    are_told_apart |= all(re.fullmatch(r"n\d{8}", name) for name in names)  # as those of ImageNet
    return are_heaps and are_told_apart and not any(map(split_in_name, names))


def _move(archive: Path, part: Path, folder: Path) -> None:
    """Move what was unpacked of one archive to that of others."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(part.rglob("*")):
        place = folder / path.relative_to(part)
        if path.is_dir() and not path.is_symlink():
            place.mkdir(exist_ok=True)
            continue
        is_data = path.suffix.lower() in {*image_suffixes(), *LISTS} - {".txt"}
        if is_data and place.is_file() and not filecmp.cmp(path, place, shallow=False):
            raise DatasetError(
                f"'{archive}' holds another '{path.relative_to(part)}' than an archive beside it.\n"
                "Unpack each into a folder of its own where it is a class, else give the files other names; "
                "then give the folder of all."
            )
        path.replace(place)


def stem_of(archive: Path) -> str:
    """Name an archive without its ending.

    Example:
        >>> stem_of(Path("photos.2018.TAR.GZ"))
        'photos.2018'
    """
    name = archive.name.lower()
    return archive.name[: -max(len(end) for end in ARCHIVES if name.endswith(end))]


def _content_key(archive: Path) -> str:
    """Checksum of an archive's content; a zip's own list of checksums stands for its members."""
    if not archive.name.lower().endswith(".zip"):
        return sha256(archive)
    with refuse_damage(archive), zipfile.ZipFile(archive) as opened:
        members = [(_name_of(member), member.file_size, member.CRC) for member in opened.infolist()]
    return hashlib.sha256(repr(members).encode(errors="surrogateescape")).hexdigest()


@contextmanager
def refuse_damage(archive: Path) -> Iterator[None]:
    """Turn what the readers of archives raise at damage into a refusal; gzip and bz2 raise bare OSErrors.

    Args:
        archive: The archive that is read inside.

    Raises:
        DatasetError: It is damaged.

    Example:
        >>> with refuse_damage(Path("photos.tar")):
        ...     raise EOFError("it ends early")
        Traceback (most recent call last):
        ...
        lort_hub.errors.DatasetError: Cannot unpack 'photos.tar': it ends early.
        Download or pack it again, or unpack it and give the folder.
    """
    try:
        yield
    except DAMAGE as cause:
        raise _damaged(archive, cause) from cause
    except OSError as cause:
        if cause.errno:
            raise
        raise _damaged(archive, cause) from cause


def _damaged(archive: Path, cause: object) -> DatasetError:
    reason = str(cause).partition("\n")[0].rstrip(":")
    return DatasetError(
        f"Cannot unpack '{archive}': {reason}.\nDownload or pack it again, or unpack it and give the folder."
    )


def _unpack(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    unpack_members = _unpack_zip if archive.name.lower().endswith(".zip") else _unpack_tar
    with refuse_damage(archive):
        unpack_members(archive, folder)


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = [member for member in opened.infolist() if _is_data(member.filename)]
        for member in members:
            member.filename = _name_of(member).replace("\\", "/")  # as Windows may write them
        if any(member.flag_bits & 1 for member in members):
            raise _damaged(archive, "it is encrypted, and a password is never asked for")
        _check(archive, [member.filename for member in members], folder)
        _check_room(archive, folder, sum(member.file_size for member in members))
        for member in members:
            if not stat.S_ISLNK(member.external_attr >> 16):
                opened.extract(member, folder)


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        files = [member for member in opened if _is_data(member.name)]
        _check_end(opened)
        _check(archive, [member.name for member in files], folder)
        _check_room(archive, folder, sum(member.size for member in files))
        opened.extractall(folder, members=files, filter="data")


def _check_end(opened: tarfile.TarFile) -> None:
    """Refuse a tar whose members end at a damaged one, and read it on to the checksum behind them."""
    stream = opened.fileobj
    assert stream is not None  # its members were read from it
    stream.seek(opened.offset)
    block = stream.read(tarfile.BLOCKSIZE)
    if len(block) == tarfile.BLOCKSIZE and block.strip(b"\0"):
        raise tarfile.ReadError("what follows its first members is no tar")
    try:
        while stream.read(2**20):
            pass
    except gzip.BadGzipFile as error:
        if "Not a gzipped file" not in str(error):  # what follows its end, and gzip itself ignores
            raise


def _name_of(member: zipfile.ZipInfo) -> str:
    """Name of a member: macOS writes UTF-8 without the flag that says so."""
    if not member.flag_bits & 0x800:
        with suppress(UnicodeError):
            return member.filename.encode("cp437").decode("utf-8")
    return member.filename


def _is_data(name: str) -> bool:
    return "__MACOSX" not in PurePosixPath(name).parts


def _check(archive: Path, names: Iterable[str], folder: Path) -> None:
    root = folder.resolve()
    for name in names:
        if name.startswith("/") or not (root / name).resolve().is_relative_to(root):
            raise DatasetError(
                f"'{archive}' holds the path '{name}', which leads out of the archive.\n"
                "Such an archive is not unpacked; pack it again with paths below its own folder."
            )


def _check_room(archive: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CheckpointError(
            f"Unpacking '{archive}' needs {needed / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB "
            "free.\nMake room, name another cache folder in LORT_HUB_CACHE, or unpack it and give the folder."
        )


def _lift(folder: Path) -> None:
    """Lift what lies in a folder's only folder out of it, unless that one's name tells the split."""
    while len(content := list(folder.iterdir())) == 1 and content[0].is_dir():
        if kind_of(content[0].name):
            break
        inner = content[0].rename(folder / uuid4().hex)
        for path in list(inner.iterdir()):
            path.rename(folder / path.name)
        inner.rmdir()
