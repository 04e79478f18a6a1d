"""What is in a tar archive, and the first difference between what is in two."""

from __future__ import annotations

import gzip
import hashlib
import posixpath
import tarfile
import zlib
from collections.abc import Mapping
from typing import IO

# What reading an archive that is none, or not whole, may raise.
BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)
_CHUNK = 1 << 20


def tar_digest(archive: IO[bytes]) -> str:
    """The digest of a package: SHA-256 of the uncompressed tar, in hexadecimal.

    :param archive: a seekable ``.tar.gz``, read from its beginning.
    :raises Exception: one of `BROKEN`.
    """
    archive.seek(0)
    digest = hashlib.sha256()
    with gzip.open(archive) as tar:
        while chunk := tar.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def members(archive: IO[bytes]) -> dict[str, str]:
    """Every member of an archive but its directories, by normalised path, with what it is.

    :param archive: a seekable tar, compressed or not, read from its beginning.
    :return: mode, size and SHA-256 of a file, the target of a link; the last of a name counts, as it does in unpacking.
    :raises Exception: one of `BROKEN`.
    """
    found = {}
    archive.seek(0)
    with tarfile.open(fileobj=archive, mode="r:*") as tar:
        for member in tar:
            if member.isdir():
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is not None:
                sha256 = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # reads as a file
                text = f"file {member.mode & 0o7777:04o} {member.size} {sha256}"
            else:
                text = f"{member.type.decode('latin-1')} to {member.linkname.removeprefix('./')}"
            found[posixpath.normpath(member.name.lstrip("/"))] = text
    return found


def first_difference(found: Mapping[str, str], expected: Mapping[str, str]) -> str | None:
    """Name the first path at which two archives are not the same, or None."""
    for path in sorted(found.keys() | expected.keys()):
        if path not in found:
            return f"{path!r} is missing"
        if path not in expected:
            return f"{path!r} is one too many"
        if found[path] != expected[path]:
            return f"{path!r} is another"
    return None


def parted(found: Mapping[str, str], folder: str) -> tuple[dict[str, str], dict[str, str]]:
    """What lies in a folder, by its path there, and the rest; what has the folder's own name lies in it."""
    inside = {path: text for path, text in found.items() if path == folder or path.startswith(f"{folder}/")}
    rest = {path: text for path, text in found.items() if path not in inside}
    return {path.removeprefix(f"{folder}/"): text for path, text in inside.items()}, rest
