"""From a commit to its package."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Literal

from airflow_sm_git.clients.git_history import commits
from airflow_sm_git.clients.git_mirror import Mirror
from airflow_sm_git.clients.git_objects import BlobReader, ObjectInfo
from airflow_sm_git.clients.git_reading import holding_commit
from airflow_sm_git.core.package import Entry, write_package
from airflow_sm_git.core.tree import EXECUTABLE, SYMLINK, Selected, select


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


def package(mirror: Mirror, commit: str, content: Content, out: BinaryIO, start: int, kind: str) -> PackageInfo:
    """Write the package of a commit from a mirror's repository of a kind; see :meth:`GitClient.package`."""
    out.seek(start)
    out.truncate()
    with holding_commit(mirror, kind, commit) as (objects, _):
        tree = commits(objects, commit, 1)[0].tree
        chosen = select(objects.tree(commit), content.source_dir, content.entry_point, content.dependencies)
    names = {member.entry.oid for member in chosen.members}
    with (
        mirror.holding(kind, names, lambda fetcher: fetcher.blobs(names)) as (objects, infos),
        objects.blobs() as reader,
    ):
        digest = write_package(_entries(chosen.members, infos, reader), out)
    return PackageInfo(digest.sha256, digest.size, digest.file_count, chosen.entry_point, chosen.source_dir, tree)


def _entries(members: Iterable[Selected], infos: dict[str, ObjectInfo], reader: BlobReader) -> Iterable[Entry]:
    for member in members:
        mode, name = member.entry.mode, member.entry.oid
        kind: Literal["file", "symlink"] = "symlink" if mode == SYMLINK else "file"
        yield Entry(member.path, infos[name].size, partial(reader.read, name), mode == EXECUTABLE, kind)
