"""From a commit to its package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import BinaryIO, Literal

from airflow_sm_git.clients.git_attributes import attribute_files, ignored
from airflow_sm_git.clients.git_fetch import Fetcher
from airflow_sm_git.clients.git_mirror import Mirror
from airflow_sm_git.clients.git_objects import BrokenMirror, ObjectReader, Objects
from airflow_sm_git.clients.git_reading import having_commit
from airflow_sm_git.core.choice import Content, choose, without_ignored
from airflow_sm_git.core.errors import UnsafeTree
from airflow_sm_git.core.limits import Limits
from airflow_sm_git.core.manifest import ManifestWriter
from airflow_sm_git.core.package import Entry, write_package
from airflow_sm_git.core.tree import EXECUTABLE, SYMLINK, Selected


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


class Target:
    """Where a package and its manifest go.

    :param out: binary file for the archive, written from where it stands; seekable.
    :param manifest: as ``out``, for the manifest; None for none.
    """

    def __init__(self, out: BinaryIO, manifest: BinaryIO | None = None) -> None:
        self.out = out
        self.manifest = manifest
        self._starts = [(file, file.tell()) for file in (out, manifest) if file]

    def rewind(self) -> None:
        """Forget what an earlier attempt has written."""
        for file, start in self._starts:
            file.seek(start)
            file.truncate()


def package(mirror: Mirror, commit: str, content: Content, limits: Limits, target: Target, kind: str) -> PackageInfo:
    """Write the package of a commit from a mirror's repository of a kind; see :meth:`GitClient.package`."""

    def attempt(objects: Objects) -> _Attempt | None:
        with objects.reader() as reader:
            tree = reader.commit_tree(commit)
            if tree is None:
                return None
            chosen, directories = choose(reader.tree, tree, content, limits)
            attributes = attribute_files(reader.tree, tree, chosen, directories)
            names = {member.entry.oid for member in chosen.members} | set(attributes.values())
            sizes = dict(_sizes(reader, names))
            if missing := tuple(name for name, size in sizes.items() if size is None):
                return _Attempt(None, missing)
            chosen = without_ignored(
                chosen, directories, lambda paths: ignored(objects, reader, attributes, sizes, paths)
            )
            target.rewind()
            manifest = ManifestWriter(target.manifest) if target.manifest else None
            digest = write_package(_entries(chosen.members, sizes, reader, limits), target.out, manifest=manifest)
            made = chosen.entry_point, chosen.source_dir, tree
            info = PackageInfo(digest.sha256, digest.size, digest.file_count, *made)
            if manifest:
                manifest.finish(_head(mirror.url, commit, info, content))
            return _Attempt(info)

    with having_commit(mirror, kind, commit, attempt) as (_, found):
        if found.info:
            return found.info
    has_all, fetch = partial(_has_all, found.missing), partial(Fetcher.blobs, names=found.missing)
    with mirror.having(kind, has_all, fetch) as (objects, _):
        written = attempt(objects)
    if written is None or written.info is None:
        raise BrokenMirror("what was there a moment ago is gone")
    return written.info


def _head(url: str, commit: str, info: PackageInfo, content: Content) -> dict[str, object]:
    made = asdict(info)
    del made["size"]  # of the compressed archive: not the same on every machine
    return {"repository": url, "commit": commit, **made, "dependencies": list(content.dependencies)}


def _has_all(names: Iterable[str], objects: Objects) -> bool | None:
    with objects.reader() as reader:
        return all([info is not None for _, info in reader.infos(names)]) or None


def _sizes(reader: ObjectReader, names: Iterable[str]) -> Iterator[tuple[str, int | None]]:
    """Each blob's size in bytes, None where it is not there."""
    for name, info in reader.infos(names):
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
