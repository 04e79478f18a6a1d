"""Brings objects of a remote into one repository of a mirror."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from pathlib import Path

from airflow_sm_git.clients.git_environment import Remote
from airflow_sm_git.clients.git_process import GitRunner

EVERYTHING = ("refs/heads/*", "refs/tags/*")
WHOLE = 2**31 - 1  # the depth that git takes for "all" (git-fetch(1), --unshallow)
_WHOLE_MARK = "whole"
_BATCH = 10_000  # git fetch takes 0.6 MB of memory for a thousand names
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")


class Fetcher:
    """Fetches into one repository, under its lock.

    :param directory: the repository.
    :param remote: the URL and the filter to ask for.
    :param lock: descriptor that git keeps open, so that the lock is held as long as git lives.
    """

    def __init__(self, runner: GitRunner, directory: Path, remote: Remote, lock: int) -> None:
        self._runner = runner
        self._directory = directory
        self._remote = remote
        self._lock = lock

    def commits(self, names: Collection[str], depth: int = 1) -> None:
        """Commits (or tags) by SHA, with so many generations in all; :data:`WHOLE` is all there are."""
        # Where all is known, what is new is little. Cut off, it would have to be fetched again with all before it.
        bounds = [] if depth == 1 and has_whole_history(self._directory) else [f"--depth={depth}"]
        self._run([*_FETCH, *bounds, *self._filter(), "origin", *_pins(names)])
        if depth == WHOLE:
            (self._directory / _WHOLE_MARK).touch()

    def history(self, names: Collection[str]) -> None:
        """Commits by SHA with all that came before them."""
        self._run([*_FETCH, *self._filter(), "origin", *_pins(names)])

    def refs(self, *patterns: str) -> None:
        """Refs with all their history; what is gone from the remote goes here."""
        self._run([*_FETCH, "--prune", *self._filter(), "origin", *(f"+{ref}:{ref}" for ref in patterns)])

    def blobs(self, names: Collection[str]) -> None:
        """Blobs by name, in few batches: what git itself does when a blobless clone lacks some."""
        # noop: the commits we have must not make the remote believe that we have their blobs.
        arguments = ["-c", "fetch.negotiationAlgorithm=noop", *_FETCH, *self._filter(), "--stdin", "origin"]
        left = iter(names)
        while some := list(islice(left, _BATCH)):
            self._run(arguments, "".join(f"{name}\n" for name in some).encode())

    def _filter(self) -> list[str]:
        return [f"--filter={self._remote.object_filter}"] if self._remote.object_filter else []

    def _run(self, arguments: list[str], stdin: bytes = b"") -> None:
        self._runner.run(self._directory, arguments, remote=self._remote, stdin=stdin, keep_open=[self._lock])


def has_whole_history(directory: Path) -> bool:
    """Whether :data:`WHOLE` was once fetched into a repository: to ask for less would cut it off again."""
    return (directory / _WHOLE_MARK).exists()


def _pins(names: Collection[str]) -> list[str]:
    return [f"{name}:refs/pins/{name}" for name in names]
