"""The mirror cache: bare repositories per remote URL that may be lost, broken or shared without harm.

::

    <cache_dir>/home/                   git's HOME, empty
    <cache_dir>/mirrors/<key>.lock      flock: shared to read, exclusive to fetch; never removed
    <cache_dir>/mirrors/<key>/objects   shallow, blobless: commits fetched by SHA with their trees, then chosen blobs
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
from pathlib import Path

from airflow_sm_git.clients.git_environment import Remote
from airflow_sm_git.clients.git_objects import BrokenMirror, ObjectInfo, Objects
from airflow_sm_git.clients.git_process import CommandFailed, GitRunner
from airflow_sm_git.core.errors import GitError, RemoteError

# A mirror's own files say nothing about the remote: local commands could not reach it if they wanted to.
_HEAD = "ref: refs/heads/none\n"
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
_FILTERS = {"objects": "blob:none", "history": "tree:0", "full": None}
_MOST_PACKS = 500
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")


class Refused(Exception):
    """The remote does not have, or does not give, an object that was asked for by name. Internal to the clients."""


class MirrorCache:
    """All mirrors of one machine.

    :param directory: made when needed, for this user alone.
    :param runner: runs git.
    :param size: bytes that all mirrors may take together; the least recently used ones go first.
    :param timeout: seconds to wait for another process that fetches into the same mirror.
    """

    def __init__(self, directory: Path, runner: GitRunner, *, size: int, timeout: float) -> None:
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
        sizes = {mirror: _disk_usage(mirror) for mirror in mirrors}
        total = sum(sizes.values())
        for mirror in mirrors:
            if total <= self._size:
                return
            if mirror == keep:
                continue
            with contextlib.suppress(BlockingIOError), self.locked(mirror, exclusive=True, wait=False):
                shutil.rmtree(mirror, ignore_errors=True)
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
    def holding(
        self, kind: str, wanted: Collection[str], fetch: Callable[[Fetcher], None]
    ) -> Iterator[tuple[Objects, dict[str, ObjectInfo]]]:
        """Hold a repository of the mirror that has all ``wanted`` objects; nobody changes it meanwhile.

        :param kind: ``objects``, ``history`` or ``full``.
        :param wanted: full object names.
        :param fetch: brings them if they are missing.
        :raises Refused: the remote will not give one by name.
        :raises RemoteError: the remote cannot be read.
        """
        for attempt in range(3):
            with self._cache.locked(self.path, exclusive=False):
                held = self._look(kind, wanted)
                if held:
                    yield held
                    return
            with self._cache.locked(self.path, exclusive=True) as lock:
                # Fetched, and still missing: what lies there hides what was fetched.
                self._prepare(kind, afresh=attempt > 0)
                if not self._look(kind, wanted):
                    self._fetch(kind, lock, fetch)
            self._cache.evict(self.path)
        raise GitError(f"The mirror of {self.url} does not keep what is fetched into it.", "Is the disk full?")

    def holds(self, kind: str, wanted: Collection[str]) -> bool:
        """Whether all ``wanted`` objects are here already."""
        with self._cache.locked(self.path, exclusive=False):
            return self._look(kind, wanted) is not None

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
            shutil.rmtree(self.path, ignore_errors=True)

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

    def _look(self, kind: str, wanted: Collection[str]) -> tuple[Objects, dict[str, ObjectInfo]] | None:
        directory = self.path / kind
        if not _is_sound(directory):
            return None
        objects = Objects(self._runner, directory)
        try:
            infos = objects.infos(wanted)
        except BrokenMirror:
            return None
        if len(infos) < len(set(wanted)):
            return None
        os.utime(self.path)
        return objects, infos

    def _prepare(self, kind: str, *, afresh: bool) -> None:
        """Make a sound, perhaps empty, repository. Under the exclusive lock no git is at work in it."""
        directory = self.path / kind
        if afresh or not _is_sound(directory) or len(list(directory.glob("objects/pack/*.pack"))) > _MOST_PACKS:
            shutil.rmtree(directory, ignore_errors=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix="new-", dir=self.path))
            for name in ("objects/pack", "refs/heads"):
                (fresh / name).mkdir(parents=True)
            (fresh / "HEAD").write_text(_HEAD)
            (fresh / "config").write_text(_CONFIG)
            fresh.rename(directory)
        for leftover in (*directory.rglob("*.lock"), *directory.glob("objects/pack/tmp_*")):
            leftover.unlink(missing_ok=True)
        for leftover in self.path.glob("new-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _fetch(self, kind: str, lock: int, fetch: Callable[[Fetcher], None]) -> None:
        fetcher = Fetcher(self._runner, self.path / kind, Remote(self.url, _FILTERS[kind]), lock)
        try:
            fetch(fetcher)
        except CommandFailed as error:
            if error.refuses_commit:
                raise Refused(error.stderr) from error
            if error.is_remote:
                raise error.explained(self.url) from error
            self._prepare(kind, afresh=True)
            try:
                fetch(fetcher)
            except CommandFailed as again:
                raise again.explained(self.url) from again


class Fetcher:
    """Brings objects into one repository of a mirror."""

    def __init__(self, runner: GitRunner, directory: Path, remote: Remote, lock: int) -> None:
        self._runner = runner
        self._directory = directory
        self._remote = remote
        self._lock = lock

    def commits(self, names: Collection[str]) -> None:
        """Commits (or tags) by SHA, without their parents."""
        refspecs = [f"{name}:refs/pins/{name}" for name in names]
        self._run([*_FETCH, "--depth=1", *self._filter(), "origin", *refspecs])

    def history(self, names: Collection[str]) -> None:
        """Commits by SHA with all that came before them."""
        self._run([*_FETCH, *self._filter(), "origin", *(f"{name}:refs/pins/{name}" for name in names)])

    def refs(self, *patterns: str) -> None:
        """Refs with all their history; what is gone from the remote goes here."""
        self._run([*_FETCH, "--prune", *self._filter(), "origin", *(f"+{ref}:{ref}" for ref in patterns)])

    def blobs(self, names: Collection[str]) -> None:
        """Blobs by name, in one batch: what git itself does when a blobless clone lacks some."""
        stdin = "".join(f"{name}\n" for name in names).encode()
        # noop: the commits we have must not make the remote believe that we have their blobs.
        arguments = ["-c", "fetch.negotiationAlgorithm=noop", *_FETCH, *self._filter(), "--stdin", "origin"]
        self._run(arguments, stdin)

    def _filter(self) -> list[str]:
        return [f"--filter={self._remote.object_filter}"] if self._remote.object_filter else []

    def _run(self, arguments: list[str], stdin: bytes = b"") -> None:
        self._runner.run(self._directory, arguments, remote=self._remote, stdin=stdin, keep_open=[self._lock])


def _is_sound(directory: Path) -> bool:
    """Whether a repository is one of ours: its HEAD and configuration are what we wrote."""
    try:
        return (directory / "HEAD").read_text() == _HEAD and (directory / "config").read_text() == _CONFIG
    except (OSError, UnicodeDecodeError):
        return False


def _last_used(mirror: Path) -> float:
    try:
        return mirror.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _disk_usage(directory: Path) -> int:
    total = 0
    for parent, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
