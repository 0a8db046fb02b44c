"""One tar for each run: the same bytes for the same files, and unpacked without trust in what it says."""

import hashlib
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from neumix.files import atomic_path, sha256

__all__ = ["pack", "unpack"]

_CHUNK = 2**20
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.DIRTYPE: "a folder",
}


def pack(archive: Path, folder: Path, members: Mapping[str, str]) -> bool:
    """Write an uncompressed tar unless these very bytes are there already; return whether it was written.

    Arguments:
        archive: where it goes.
        folder: that members are below.
        members: SHA-256 that each file must have, by name below the folder.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file's content is not the recorded one; an older archive is kept.
    """
    if archive.is_file() and _holds(archive, _blocks(folder, members)):
        return False
    with atomic_path(archive) as temporary, temporary.open("wb") as stream:
        stream.writelines(_blocks(folder, members))
    return True


def _holds(path: Path, blocks: Iterator[bytes]) -> bool:
    with path.open("rb") as stream:
        return all(stream.read(len(block)) == block for block in blocks) and not stream.read(1)


def _blocks(folder: Path, members: Mapping[str, str]) -> Iterator[bytes]:
    """Yield the bytes of an archive: nothing but names and contents decides them."""
    for name, expected in sorted(members.items()):
        digest = hashlib.sha256()
        with (folder / name).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            yield _header(name, size)
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                yield chunk
            yield bytes(-size % tarfile.BLOCKSIZE)
        if digest.hexdigest() != expected:
            found = f"sha256 {digest.hexdigest()[:12]}, its record says {expected[:12]}"
            raise ValueError(f"{folder / name}: {found}; restore it, or run the job again")
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)  # time, user and group 0
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.PAX_FORMAT)


def unpack(archive: Path, folder: Path, members: Mapping[str, str]) -> tuple[list[Path], list[str]]:
    """Write the files of an archive that are not there yet; return them, and what was wrong with the others.

    Every name is looked at before anything is written, every content before it replaces a file.

    Arguments:
        archive: to unpack.
        folder: that members are below.
        members: SHA-256 that each file must have, by name below the folder; nothing else is unpacked.

    Raises:
        ValueError: it is no archive, or has a member that does not belong there; nothing was written.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            found = tar.getmembers()
    except (tarfile.TarError, ValueError) as error:
        raise ValueError(f"{archive}: not an archive that can be read ({error}); nothing was written") from None
    _refuse(archive, folder, found, members)
    written, wrong = [], []
    for member in found:
        path = folder / member.name
        if path.is_file() and sha256(path) == members[member.name]:
            continue
        try:
            _write(archive, member, path, members[member.name])
            written.append(path)
        except ValueError as error:
            wrong.append(str(error))
    return written, wrong


def _refuse(archive: Path, folder: Path, found: list[tarfile.TarInfo], members: Mapping[str, str]) -> None:
    seen: set[str] = set()
    for member in found:
        fault = _fault(member, folder, members) or ("it is there twice" if member.name in seen else None)
        if fault:
            raise ValueError(f"{archive}: refused for its member '{member.name}': {fault}; nothing was written")
        seen.add(member.name)


def _fault(member: tarfile.TarInfo, folder: Path, members: Mapping[str, str]) -> str | None:
    """Return why a member must not be written."""
    name = PurePosixPath(member.name)
    if name.is_absolute():
        return "its name is absolute"
    if ".." in name.parts:
        return "its name leads out of the folder"
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        return f"it is {_KINDS.get(member.type, 'not a plain file')}"
    if member.name not in members:
        return "no record of the run names it"
    if not (folder / name).parent.resolve().is_relative_to((folder / name.parts[0]).resolve()):
        return "a link in the results leads it elsewhere"
    return None


def _write(archive: Path, member: tarfile.TarInfo, path: Path, expected: str) -> None:
    with atomic_path(path) as temporary:
        with archive.open("rb") as source, temporary.open("wb") as target:
            source.seek(member.offset_data)
            for start in range(0, member.size, _CHUNK):
                target.write(source.read(min(_CHUNK, member.size - start)))
        digest = sha256(temporary)
        if digest != expected:
            found = f"'{member.name}' has sha256 {digest[:12]}, its record says {expected[:12]}"
            raise ValueError(f"{archive}: {found}; it was not written, get the archive again")
