"""From a commit to its package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Literal

from airflow_sm_git.clients.git_fetch import Fetcher
from airflow_sm_git.clients.git_mirror import Mirror
from airflow_sm_git.clients.git_objects import BrokenMirror, ObjectReader, Objects
from airflow_sm_git.clients.git_reading import having_commit
from airflow_sm_git.core.errors import PathNotFound, UnsafeTree
from airflow_sm_git.core.git_tree import DIRECTORY, Reader, TooMany, find, walk
from airflow_sm_git.core.limits import Limits
from airflow_sm_git.core.package import Entry, write_package
from airflow_sm_git.core.source import check_path
from airflow_sm_git.core.tree import EXECUTABLE, SYMLINK, Selected, Selection, TreeEntry, select

_MOST_SHOWN = 20_000


@dataclass(frozen=True)
class Content:
    """What of a commit to package; see :func:`airflow_sm_git.core.tree.select`."""

    source_dir: str | None
    entry_point: str
    dependencies: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackageInfo:
    """A package that was written.

    :param digest: SHA-256 of the uncompressed tar, in hexadecimal.
    :param size: bytes of the archive.
    :param file_count: members of the archive.
    :param entry_point: its path inside the archive.
    :param source_dir: normalised, or None.
    :param tree: full object name of the commit's tree.
    """

    digest: str
    size: int
    file_count: int
    entry_point: str
    source_dir: str | None
    tree: str


@dataclass(frozen=True)
class _Attempt:
    """A package, or what has to be fetched before it can be written: object names of blobs."""

    info: PackageInfo | None
    missing: tuple[str, ...] = ()


def package(
    mirror: Mirror, commit: str, content: Content, limits: Limits, out: BinaryIO, start: int, kind: str
) -> PackageInfo:
    """Write the package of a commit from a mirror's repository of a kind; see :meth:`GitClient.package`."""

    def attempt(objects: Objects) -> _Attempt | None:
        with objects.reader() as reader:
            tree = reader.commit_tree(commit)
            if tree is None:
                return None
            chosen = choose(reader.tree, tree, content, limits)
            sizes = dict(_sizes(reader, chosen.members))
            if missing := tuple(name for name, size in sizes.items() if size is None):
                return _Attempt(None, missing)
            out.seek(start)
            out.truncate()
            digest = write_package(_entries(chosen.members, sizes, reader, limits), out)
            made = chosen.entry_point, chosen.source_dir, tree
            return _Attempt(PackageInfo(digest.sha256, digest.size, digest.file_count, *made))

    with having_commit(mirror, kind, commit, attempt) as (_, found):
        if found.info:
            return found.info
    has_all, fetch = partial(_has_all, found.missing), partial(Fetcher.blobs, names=found.missing)
    with mirror.having(kind, has_all, fetch) as (objects, _):
        written = attempt(objects)
    if written is None or written.info is None:
        raise BrokenMirror("what was there a moment ago is gone")
    return written.info


def choose(read: Reader, root: str, content: Content, limits: Limits) -> Selection:
    """What of a commit goes into the package, looking only where it lies; see :func:`airflow_sm_git.core.tree.select`.

    :param read: gives tree objects.
    :param root: name of the commit's tree.
    """
    given = (content.source_dir, content.entry_point, content.dependencies)
    wanted = [check_path("source_dir", content.source_dir)] if content.source_dir else []
    wanted = wanted or [check_path("entry_point", content.entry_point)]
    wanted += [check_path("dependencies", path) for path in content.dependencies]
    entries: list[TreeEntry] = []
    try:
        for path in _outermost(wanted):
            found = find(read, root, path)
            if found and found[0] == DIRECTORY:
                entries += walk(read, found[1], "" if path == "." else path, most=limits.max_files - len(entries))
            elif found:
                entries.append(TreeEntry(path, *found))
        return select(entries, *given)
    except PathNotFound:
        if "." in wanted:
            raise
    # Only what there is in the whole commit makes a helpful error; of a large one, a part will do.
    around: list[TreeEntry] = []
    with suppress(TooMany):
        around.extend(walk(read, root, most=_MOST_SHOWN))
    return select([*around, *entries], *given)


def _outermost(paths: Iterable[str]) -> list[str]:
    """The paths that do not lie below another one of them, each once."""
    unique = list(dict.fromkeys(paths))
    return [p for p in unique if "." not in unique or p == "." if not any(p.startswith(f"{o}/") for o in unique)]


def _has_all(names: Iterable[str], objects: Objects) -> bool | None:
    with objects.reader() as reader:
        return all([info is not None for _, info in reader.infos(names)]) or None


def _sizes(reader: ObjectReader, members: Iterable[Selected]) -> Iterator[tuple[str, int | None]]:
    """Each chosen blob's size in bytes, None where it is not there."""
    for name, info in reader.infos({member.entry.oid for member in members}):
        if info is not None and info.kind != "blob":
            raise UnsafeTree(f"The commit has the {info.kind} {name} where a file should be.")
        yield name, None if info is None else info.size


class _Blob:
    """Reads one blob; there is one of these for each file, so it is small."""

    __slots__ = ("_name", "_reader")

    def __init__(self, reader: ObjectReader, name: str) -> None:
        self._reader = reader
        self._name = name

    def __call__(self) -> Iterator[bytes]:
        return self._reader.blob(self._name)


def _entries(
    members: Iterable[Selected], sizes: Mapping[str, int | None], reader: ObjectReader, limits: Limits
) -> Iterator[Entry]:
    total = 0
    for member in members:
        mode, name = member.entry.mode, member.entry.oid
        size = sizes[name] or 0
        total += size
        if size > limits.max_file_size:
            what = f"{member.entry.path!r} has {size} bytes, more than {limits.max_file_size}."
            raise UnsafeTree(what, "Put it into S3 and pass it as a channel, or raise [sm_git] max_file_size.")
        if total > limits.max_package_size:
            what = f"The files to be packaged have more than {limits.max_package_size} bytes together."
            raise UnsafeTree(what, "Choose a smaller source_dir, or raise [sm_git] max_package_size.")
        kind: Literal["file", "symlink"] = "symlink" if mode == SYMLINK else "file"
        yield Entry(member.path, size, _Blob(reader, name), mode == EXECUTABLE, kind)
