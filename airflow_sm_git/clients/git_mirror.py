"""The mirror cache: bare repositories per remote URL that may be lost, broken or shared without harm.

::

    <cache_dir>/home/                   git's HOME, empty
    <cache_dir>/mirrors/<key>.lock      flock: shared to read, exclusive to fetch; never removed
    <cache_dir>/mirrors/<key>/size      bytes that the mirror took after its last fetch
    <cache_dir>/mirrors/<key>/objects   blobless: commits fetched by SHA with their trees, as deep as was needed, then
                                        chosen blobs
    <cache_dir>/mirrors/<key>/history   commits alone, never shallow: for short SHAs, times and ranges
    <cache_dir>/mirrors/<key>/full      everything: only for remotes that do not serve commits by SHA
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from airflow_sm_git.clients.git_environment import Remote
from airflow_sm_git.clients.git_fetch import Fetcher, has_whole_history
from airflow_sm_git.clients.git_objects import BrokenMirror, ObjectInfo, Objects
from airflow_sm_git.clients.git_process import CommandFailed, GitRunner
from airflow_sm_git.core.errors import GitError, NotSupported, RemoteError, UnsafeTree
from airflow_sm_git.core.urls import same_host

# A mirror's own files say nothing about the remote: local commands could not reach it if they wanted to.
_HEAD = "ref: refs/heads/none\n"
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
_FILTERS = {"objects": "blob:none", "history": "tree:0", "full": None}
_MOST_PACKS = 500
# What git obeys beside a configuration (gitrepository-layout(5)), and what a fetch never makes: somebody else's.
_FOREIGN = ("commondir", "config.worktree", "gitdir", "hooks", "info", "worktrees", "objects/info/alternates")
_T = TypeVar("_T")


class Refused(Exception):
    """The remote does not have, or does not give, an object that was asked for by name. Internal to the clients."""


class MirrorCache:
    """All mirrors of one machine.

    :param directory: made when needed, for this user alone.
    :param runner: runs git.
    :param size: bytes that all mirrors may take together; the least recently used ones go first.
    :param timeout: seconds to wait for another process that fetches into the same mirror.
    :param largest: bytes that one fetch may bring, or None.
    """

    def __init__(
        self, directory: Path, runner: GitRunner, *, size: int, timeout: float, largest: int | None = None
    ) -> None:
        self.largest = largest
        self._directory = directory
        self._runner = runner
        self._size = size
        self._timeout = timeout

    def mirror(self, url: str) -> Mirror:
        """The mirror of a remote."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = hashlib.sha256(url.encode()).hexdigest()[:32]
        return Mirror(self, self._runner, self._directory / key, url)

    @contextlib.contextmanager
    def locked(self, path: Path, *, exclusive: bool, wait: bool = True) -> Iterator[int]:
        """Hold the lock of the mirror at ``path``; yields its file descriptor.

        :raises RemoteError: another process holds it for longer than the timeout.
        :raises BlockingIOError: it is held, and ``wait`` is False.
        """
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + self._timeout
            while True:
                try:
                    fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not wait:
                        raise
                    if time.monotonic() > deadline:
                        what = f"Another process has held the git mirror {path.name} for {self._timeout:g} s."
                        raise RemoteError(what, "Try again when its fetch has ended.") from None
                    time.sleep(0.02)
            yield descriptor
        finally:
            os.close(descriptor)

    def evict(self, keep: Path) -> None:
        """Remove the least recently used mirrors until the rest fits; those in use stay."""
        mirrors = sorted((m for m in self._directory.iterdir() if m.is_dir()), key=_last_used)
        sizes = {mirror: _size(mirror) for mirror in mirrors}
        total = sum(sizes.values())
        for mirror in mirrors:
            if total <= self._size:
                return
            if mirror == keep:
                continue
            with contextlib.suppress(BlockingIOError), self.locked(mirror, exclusive=True, wait=False):
                _remove(mirror)
                total -= sizes[mirror]


class Mirror:
    """The mirror of one remote: hands out objects, fetching what is missing, and rebuilding what is broken.

    :param path: its folder; the lock lies beside it.
    :param url: of the remote.
    """

    def __init__(self, cache: MirrorCache, runner: GitRunner, path: Path, url: str) -> None:
        self._cache = cache
        self._runner = runner
        self.path = path
        self.url = url

    @contextlib.contextmanager
    def having(
        self,
        kind: str,
        look: Callable[[Objects], _T | None],
        fetch: Callable[[Fetcher], None],
        url: str | None = None,
    ) -> Iterator[tuple[Objects, _T]]:
        """Hold a repository of the mirror that has what is looked for; nobody changes it meanwhile.

        :param kind: ``objects``, ``history`` or ``full``.
        :param look: finds it; None, or a command that fails, means that it is not there.
        :param fetch: brings it then.
        :param url: of a submodule, if it is to be brought from there.
        :raises Refused: the remote will not give an object by name.
        :raises RemoteError: the remote cannot be read.
        """
        for attempt in range(3):
            with self._cache.locked(self.path, exclusive=False):
                found = self._look(kind, look)
                if found is not None:
                    yield Objects(self._runner, self.path / kind), found
                    return
            with self._cache.locked(self.path, exclusive=True) as lock:
                # Fetched, and still missing: what lies there hides what was fetched.
                is_new = self._prepare(kind, afresh=attempt > 0)
                if is_new or self._look(kind, look) is None:
                    self._fetch(kind, lock, fetch, url)
            self._cache.evict(self.path)
        raise GitError(f"The mirror of {self.url} does not keep what is fetched into it.", "Is the disk full?")

    def holding(
        self, kind: str, wanted: Collection[str], fetch: Callable[[Fetcher], None]
    ) -> contextlib.AbstractContextManager[tuple[Objects, dict[str, ObjectInfo]]]:
        """Hold a repository of the mirror that has all ``wanted`` objects (full names); see :meth:`having`."""
        return self.having(kind, partial(_all_infos, wanted), fetch)

    def holds(self, kind: str, wanted: Collection[str]) -> bool:
        """Whether all ``wanted`` objects are here already."""
        with self._cache.locked(self.path, exclusive=False):
            return self._look(kind, partial(_all_infos, wanted)) is not None

    def cut(self, kind: str) -> set[str]:
        """The commits of a repository whose parents were not fetched (gitglossary(7), shallow repository)."""
        try:
            return set((self.path / kind / "shallow").read_text().split())
        except FileNotFoundError:
            return set()

    def has_whole_history(self, kind: str) -> bool:
        """Whether some tip was once fetched with all its history."""
        return has_whole_history(self.path / kind)

    def adopt(self, kind: str, other: str) -> None:
        """Take what lies in one repository for another, whose content it proved to have."""
        with self._cache.locked(self.path, exclusive=True):
            if (self.path / kind).is_dir():
                _remove(self.path / other)
                (self.path / kind).rename(self.path / other)

    def update(self, kind: str, fetch: Callable[[Fetcher], None]) -> None:
        """Fetch, whatever is here already.

        :raises Refused: the remote will not give an object by name.
        :raises RemoteError: the remote cannot be read.
        """
        with self._cache.locked(self.path, exclusive=True) as lock:
            self._prepare(kind, afresh=False)
            self._fetch(kind, lock, fetch)
        self._cache.evict(self.path)

    @contextlib.contextmanager
    def reading(self, kind: str) -> Iterator[Objects]:
        """Hold a repository as it is."""
        with self._cache.locked(self.path, exclusive=False):
            if not _is_sound(self.path / kind):
                raise BrokenMirror(f"there is no sound {kind} repository")
            yield Objects(self._runner, self.path / kind)

    def rebuild(self) -> None:
        """Throw everything away; the next use fetches again."""
        with self._cache.locked(self.path, exclusive=True):
            _remove(self.path)

    def list_remote(self, *patterns: str) -> dict[str, str]:
        """What the remote calls its refs: object names by ref, ``ref^{}`` for what a tag points to.

        The remote's HEAD adds ``HEAD``, and ``@`` for the name of the branch it stands for.

        :raises RemoteError: the remote cannot be read.
        """
        remote = Remote(self.url)
        try:
            output = self._runner.run(None, ["ls-remote", "--symref", "origin", *patterns], remote=remote)
        except CommandFailed as error:
            raise error.explained(self.url) from error
        refs: dict[str, str] = {}
        for line in output.decode("utf-8", "surrogateescape").splitlines():
            value, _, name = line.partition("\t")
            if value.startswith("ref: "):
                refs["@"] = value.removeprefix("ref: ").removeprefix("refs/heads/")
            else:
                refs[name] = value
        return refs

    def _look(self, kind: str, look: Callable[[Objects], _T | None]) -> _T | None:
        directory = self.path / kind
        if not _is_sound(directory):
            return None
        try:
            found = look(Objects(self._runner, directory))
        except BrokenMirror:
            return None
        if found is not None:
            os.utime(self.path)
        return found

    def _prepare(self, kind: str, *, afresh: bool) -> bool:
        """Make a repository sound, if need be a new one. Under the exclusive lock no git is at work in it."""
        directory = self.path / kind
        is_new = afresh or not _is_sound(directory) or len(list(directory.glob("objects/pack/*.pack"))) > _MOST_PACKS
        if is_new:
            _remove(directory)
            self.path.mkdir(mode=0o700, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix="new-", dir=self.path))
            for name in ("objects/pack", "refs/heads"):
                (fresh / name).mkdir(parents=True)
            (fresh / "HEAD").write_text(_HEAD)
            (fresh / "config").write_text(_CONFIG)
            fresh.rename(directory)
        for pattern in ("**/*.lock", "objects/**/tmp_*", "objects/pack/*.keep", "shallow_*"):
            for leftover in directory.glob(pattern):
                _remove(leftover)
        for leftover in self.path.glob("new-*"):
            _remove(leftover)
        return is_new

    def _fetch(self, kind: str, lock: int, fetch: Callable[[Fetcher], None], url: str | None = None) -> None:
        # Only a remote that does not serve commits by name is asked for everything, whatever that is.
        largest = None if kind == "full" else self._cache.largest
        remote = Remote(url or self.url, _FILTERS[kind], same_host(url or self.url, self.url), largest)
        fetcher = Fetcher(self._runner, self.path / kind, remote, lock)
        try:
            fetch(fetcher)
        except CommandFailed as error:
            if "dumb http" in error.stderr:
                remedy = "Serve it with git-http-backend(1), or over SSH."
                raise NotSupported(
                    "repo", remote.url, "it lies there as files, with no git to answer.", remedy
                ) from error
            if error.is_too_large:
                what = f"{remote.url} sends more than {largest} bytes, which no package within the limits needs."
                remedy = "Choose a smaller source_dir, or raise [sm_git] max_package_size."
                raise UnsafeTree(what, remedy) from error
            if error.refuses_commit:
                raise Refused(error.stderr) from error
            if error.is_remote:
                raise error.explained(remote.url) from error
            self._prepare(kind, afresh=True)
            try:
                fetch(fetcher)
            except CommandFailed as again:
                raise again.explained(remote.url) from again
        finally:
            (self.path / "size").write_text(str(_disk_usage(self.path)))


def _all_infos(wanted: Collection[str], objects: Objects) -> dict[str, ObjectInfo] | None:
    infos = objects.infos(wanted)
    return infos if len(infos) == len(set(wanted)) else None


def _is_sound(directory: Path) -> bool:
    """Whether a repository is one of ours: what git reads before it does anything is what we wrote."""
    try:
        if any(os.path.lexists(directory / name) for name in _FOREIGN):
            return False
        return (directory / "HEAD").read_text() == _HEAD and (directory / "config").read_text() == _CONFIG
    except (OSError, UnicodeDecodeError):
        return False


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _last_used(mirror: Path) -> float:
    try:
        return mirror.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(mirror: Path) -> int:
    try:
        return int((mirror / "size").read_text())
    except (OSError, ValueError):  # never fetched into to the end
        return _disk_usage(mirror)


def _disk_usage(directory: Path) -> int:
    total = 0
    for parent, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
