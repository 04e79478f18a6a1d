"""From entries to an archive: the same bytes and the same digest everywhere.

The tar headers are written here, byte for byte (POSIX.1-2017, ``pax``, "ustar Interchange Format" and "pax
Extended Header"), because :mod:`tarfile` may change what it writes from one Python to the next.
The digest is that of the *uncompressed* tar: zlib builds compress differently.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol

from airflow_sm_git.core.errors import UnsafeTree
from airflow_sm_git.core.manifest import ManifestWriter
from airflow_sm_git.core.tree import check_layout

# 1980-01-02: zip files, and so wheels built from a package, know nothing before 1980 in any time zone.
MTIME = 315_619_200
_BLOCK = 512
_RECORD = 20 * _BLOCK
# RFC 1952: deflate, no flags, no time, no extra flags, operating system unknown.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_LFS_POINTER_SIZE = 1024  # "must be less than 1024 bytes" (git-lfs specification, "The Pointer")
_LONGEST_TARGET = 4095  # PATH_MAX of Linux, without the NUL
_LARGEST_OCTAL = 8**11 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of the archive.

    :param path: relative POSIX path in the archive.
    :param size: bytes that ``read`` yields.
    :param read: gives the content in chunks; for a symlink, its target.
    :param executable: mode 0755 instead of 0644.
    :param kind: ``file`` or ``symlink``.
    """

    path: str
    size: int
    read: Callable[[], Iterable[bytes]]
    executable: bool = False
    kind: Literal["file", "symlink"] = "file"


@dataclass(frozen=True)
class Digest:
    """What was written.

    :param sha256: of the uncompressed tar, in hexadecimal.
    :param size: bytes of the compressed archive.
    :param file_count: members, symlinks included.
    """

    sha256: str
    size: int
    file_count: int


class Compressor(Protocol):
    """What :func:`zlib.compressobj` gives."""

    def compress(self, data: bytes, /) -> bytes:
        """Take ``data``; give what is ready."""

    def flush(self) -> bytes:
        """Give the rest."""


def _raw_deflate() -> Compressor:
    return zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)


def write_package(
    entries: Iterable[Entry],
    out: BinaryIO,
    *,
    manifest: ManifestWriter | None = None,
    compressor: Callable[[], Compressor] = _raw_deflate,
) -> Digest:
    """Write ``entries`` to ``out`` as a ``.tar.gz`` whose tar depends on nothing but their paths, modes and content.

    :param entries: in any order; they are sorted by the bytes of their paths. Contents are streamed.
    :param out: binary file, written from where it stands.
    :param manifest: is told of every file.
    :param compressor: makes a raw deflate stream.
    :raises UnsafeTree: ``.git`` in any disguise, links that leave the archive, names that collide, LFS pointers.
    """
    ordered = sorted(entries, key=lambda entry: entry.path)  # by code points, so by the bytes of UTF-8
    links = {e.path: _target(e) for e in ordered if e.kind == "symlink"}
    check_layout([entry.path for entry in ordered], links)
    gzip = _GzipWriter(out, compressor())
    for entry in ordered:
        if entry.kind == "symlink":
            gzip.write(_header(entry.path, 0o777, 0, b"2", links[entry.path]))
            if manifest:
                manifest.symlink(entry.path, links[entry.path])
        else:
            gzip.write(_header(entry.path, 0o755 if entry.executable else 0o644, entry.size, b"0"))
            sha256 = _write_content(entry, gzip)
            if manifest:
                manifest.file(entry.path, executable=entry.executable, size=entry.size, sha256=sha256)
    return gzip.finish(len(ordered))


def _target(entry: Entry) -> str:
    if entry.size > _LONGEST_TARGET:
        raise UnsafeTree(f"The symlink {entry.path!r} has a target of {entry.size} bytes.", "Replace it by a file.")
    target = b"".join(entry.read())
    try:
        text = target.decode()
    except UnicodeDecodeError as error:
        raise UnsafeTree(f"The symlink {entry.path!r} has a target that is not UTF-8.") from error
    if not text or "\0" in text:
        raise UnsafeTree(f"The symlink {entry.path!r} has no usable target.")
    return text


def _write_content(entry: Entry, gzip: _GzipWriter) -> str:
    """Write a file's content; return its SHA-256 in hexadecimal."""
    written = 0
    sha256 = hashlib.sha256()
    for chunk in entry.read():
        if written == 0 and entry.size < _LFS_POINTER_SIZE and chunk.startswith(_LFS_POINTER):
            raise UnsafeTree(
                f"{entry.path!r} is a Git LFS pointer: the commit has the file's name, not its data.",
                "Put the data into S3 and pass it as a channel, or keep the file out of what is packaged.",
            )
        gzip.write(chunk)
        sha256.update(chunk)
        written += len(chunk)
    if written != entry.size:
        raise UnsafeTree(f"{entry.path!r} has {written} bytes instead of the {entry.size} that were announced.")
    gzip.write(bytes(-written % _BLOCK))
    return sha256.hexdigest()


class _GzipWriter:
    """Digests and compresses a tar on its way out."""

    def __init__(self, out: BinaryIO, compressor: Compressor) -> None:
        self._out = out
        self._compressor = compressor
        self._sha256 = hashlib.sha256()
        self._crc = 0
        self._tar_size = 0
        self._size = 0
        self._emit(_GZIP_HEADER)

    def _emit(self, data: bytes) -> None:
        self._out.write(data)
        self._size += len(data)

    def write(self, data: bytes) -> None:
        self._sha256.update(data)
        self._crc = zlib.crc32(data, self._crc)
        self._tar_size += len(data)
        self._emit(self._compressor.compress(data))

    def finish(self, file_count: int) -> Digest:
        self.write(bytes(2 * _BLOCK))
        self.write(bytes(-self._tar_size % _RECORD))
        self._emit(self._compressor.flush())
        self._emit(struct.pack("<II", self._crc, self._tar_size & 0xFFFFFFFF))
        return Digest(self._sha256.hexdigest(), self._size, file_count)


def _header(path: str, mode: int, size: int, kind: bytes, target: str = "") -> bytes:
    """The header block of one member, with a pax header before it where ustar cannot say it all."""
    records: list[tuple[str, str]] = []
    name, prefix = _ustar_name(path)
    if not name:
        records.append(("path", path))
        name = path.encode("ascii", "replace")[:100]
    linkname = target.encode("ascii", "replace")
    if len(linkname) > 100 or not target.isascii():
        records.append(("linkpath", target))
    if size > _LARGEST_OCTAL:
        records.append(("size", str(size)))
    extended = b""
    if records:
        body = b"".join(_pax_record(key, value) for key, value in records)
        extended = _block(b"pax_header", b"", 0o644, len(body), b"x", b"") + body + bytes(-len(body) % _BLOCK)
    ustar_size = 0 if size > _LARGEST_OCTAL else size
    return extended + _block(name, prefix, mode, ustar_size, kind, linkname[:100])


def _ustar_name(path: str) -> tuple[bytes, bytes]:
    """``path`` as ustar's name and prefix; an empty name if it does not fit."""
    if not path.isascii():
        return b"", b""
    raw = path.encode("ascii")
    if len(raw) <= 100:
        return raw, b""
    slash = raw.find(b"/", len(raw) - 101)  # the shortest prefix that leaves at most 100 bytes
    if 0 < slash <= 155 and slash < len(raw) - 1:
        return raw[slash + 1 :], raw[:slash]
    return b"", b""


def _pax_record(key: str, value: str) -> bytes:
    """``length key=value\\n``, where the length counts its own digits."""
    tail = f" {key}={value}\n".encode()
    length = len(tail)
    while len(str(length)) + len(tail) != length:
        length = len(str(length)) + len(tail)
    return str(length).encode() + tail


def _block(name: bytes, prefix: bytes, mode: int, size: int, kind: bytes, linkname: bytes) -> bytes:
    def octal(value: int, width: int) -> bytes:
        return b"%0*o\0" % (width - 1, value)

    fields = (name, octal(mode, 8), octal(0, 8), octal(0, 8), octal(size, 12), octal(MTIME, 12), b" " * 8, kind)
    rest = (linkname, b"ustar\0", b"00", b"", b"", octal(0, 8), octal(0, 8), prefix, b"")
    block = struct.pack("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12s", *fields, *rest)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
