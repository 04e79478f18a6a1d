"""Getting at what a commit holds, whatever the remote will serve and however the mirror has fared."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

from airflow_sm_git.clients.git_fetch import EVERYTHING, Fetcher
from airflow_sm_git.clients.git_mirror import Mirror, Refused
from airflow_sm_git.clients.git_objects import BrokenMirror, Objects
from airflow_sm_git.core.errors import GitError

_T = TypeVar("_T")


def read(mirror: Mirror, sha: str, missing: GitError, action: Callable[[str], _T]) -> _T:
    """Do something with the ``objects`` of a commit; with the ``full`` ones if the remote serves none by name.

    :raises GitError: ``missing``, if no branch or tag of the remote leads to the commit.
    """

    def once() -> _T:
        if not mirror.holds("full", [sha]):
            try:
                return action("objects")
            except Refused:
                _find_by_ref(mirror, sha, missing)
        return action("full")

    return sturdy(mirror, once)


def _find_by_ref(mirror: Mirror, sha: str, missing: GitError) -> None:
    """Look for a commit in all that refs lead to: the commits alone, before everything is fetched for its sake."""
    mirror.update("history", lambda fetcher: fetcher.refs(*EVERYTHING))
    if not mirror.holds("history", [sha]):
        raise missing from None
    if mirror.holds("history", [f"{sha}^{{tree}}"]):  # the remote filters nothing: everything is here already
        mirror.adopt("history", "full")


def sturdy(mirror: Mirror, action: Callable[[], _T]) -> _T:
    """Do something with a mirror; if it turns out to be broken, once more with a new one."""
    try:
        return action()
    except BrokenMirror:
        mirror.rebuild()
    try:
        return action()
    except BrokenMirror as error:
        raise GitError(f"What git fetched cannot be read: {error}", "Is the disk full or failing?") from error


def having_commit(
    mirror: Mirror, kind: str, sha: str, look: Callable[[Objects], _T | None]
) -> AbstractContextManager[tuple[Objects, _T]]:
    """Hold the repository of a kind that has a commit (or tag), fetching it if need be.

    :param look: reads something of the commit, and so finds out whether it is there.
    """
    return mirror.having(kind, look, partial(_bring, kind, sha))


def _bring(kind: str, sha: str, fetcher: Fetcher) -> None:
    if kind == "full":
        fetcher.refs(*EVERYTHING)
    else:
        fetcher.commits([sha])
