"""From a commit to its package."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import BinaryIO, Literal

from airflow_sm_git.clients.git_attributes import attribute_files, ignored
from airflow_sm_git.clients.git_fetch import Fetcher
from airflow_sm_git.clients.git_mirror import Mirror, Refused
from airflow_sm_git.clients.git_objects import BrokenMirror, ObjectReader, Objects
from airflow_sm_git.clients.git_reading import having_commit
from airflow_sm_git.clients.git_submodules import Submodules, Wanting
from airflow_sm_git.core.choice import Content, choose, without_ignored
from airflow_sm_git.core.errors import GitError, UnsafeTree
from airflow_sm_git.core.limits import Limits
from airflow_sm_git.core.manifest import ManifestWriter
from airflow_sm_git.core.package import Entry, write_package
from airflow_sm_git.core.tree import EXECUTABLE, SYMLINK, Selected, Selection

_MOST_FETCHES = 1000  # one for what is missing, and two for each submodule


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
    """A package, or what has to be fetched before it can be written.

    :param missing: object names.
    :param commit: whether they are commits, not blobs.
    :param url: of the submodule that they are fetched from; None for the repository itself.
    :param why: what to say if they cannot be had.
    """

    info: PackageInfo | None
    missing: tuple[str, ...] = ()
    commit: bool = False
    url: str | None = None
    why: str = ""


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


@dataclass(frozen=True)
class Packager:
    """Packages of one commit; see :meth:`GitClient.package`.

    :param mirror: of the repository.
    :param check_url: returns the URL of a submodule that git may be run on, or raises.
    """

    mirror: Mirror
    commit: str
    content: Content
    limits: Limits
    check_url: Callable[[str], str]

    def write(self, target: Target, kind: str) -> PackageInfo:
        """Write the package from the mirror's repository of a kind, fetching what is missing there."""
        attempt = partial(self._attempt, target)
        for _ in range(_MOST_FETCHES):
            with having_commit(self.mirror, kind, self.commit, attempt) as (_, found):
                if found.info:
                    return found.info
            has_all = partial(_has_all, found.missing)
            fetch = partial(Fetcher.commits if found.commit else Fetcher.blobs, names=found.missing)
            try:
                with self.mirror.having(kind, has_all, fetch, found.url):
                    continue
            except Refused:
                if not found.why:
                    raise
                raise GitError(f"{found.why}.", "Push it there, or record another commit.") from None
        raise BrokenMirror("what is fetched is gone again")

    def _attempt(self, target: Target, objects: Objects) -> _Attempt | None:
        with objects.reader() as reader:
            tree = reader.commit_tree(self.commit)
            if tree is None:
                return None
            modules = Submodules(objects, reader, self.check_url, self.limits.max_files)
            expand = partial(modules.expand, url=self.mirror.url, tree=tree) if self.content.submodules else list
            try:
                chosen, directories = choose(reader.tree, tree, self.content, self.limits, expand)
            except Wanting as want:
                return _Attempt(None, (want.name,), want.kind == "commit", want.url, want.why)
            attributes = attribute_files(reader.tree, tree, chosen, directories)
            names = {member.entry.oid for member in chosen.members} | set(attributes.values())
            sizes = dict(_sizes(reader, names))
            if missing := [name for name, size in sizes.items() if size is None]:
                origin = modules.origins.get(missing[0])
                return _Attempt(None, tuple(n for n in missing if modules.origins.get(n) == origin), url=origin)
            left_out = partial(ignored, objects, reader, attributes, sizes)
            return _Attempt(self._write(target, tree, without_ignored(chosen, directories, left_out), reader, sizes))

    def _write(
        self, target: Target, tree: str, chosen: Selection, reader: ObjectReader, sizes: Mapping[str, int | None]
    ) -> PackageInfo:
        target.rewind()
        manifest = ManifestWriter(target.manifest) if target.manifest else None
        digest = write_package(_entries(chosen.members, sizes, reader, self.limits), target.out, manifest=manifest)
        made = chosen.entry_point, chosen.source_dir, tree
        info = PackageInfo(digest.sha256, digest.size, digest.file_count, *made)
        if manifest:
            manifest.finish(_head(self.mirror.url, self.commit, info, self.content))
        return info


def _head(url: str, commit: str, info: PackageInfo, content: Content) -> dict[str, object]:
    made = asdict(info)
    del made["size"]  # of the compressed archive: not the same on every machine
    chosen = {"dependencies": list(content.dependencies), "submodules": content.submodules}
    return {"repository": url, "commit": commit, **made, **chosen}


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
