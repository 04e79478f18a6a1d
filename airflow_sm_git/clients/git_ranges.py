"""Going back from a commit along first parents, with as much of its history as that takes and hardly more."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from airflow_sm_git.clients.git_fetch import EVERYTHING, WHOLE, Fetcher
from airflow_sm_git.clients.git_history import (
    CommitInfo,
    commits,
    first_parents,
    is_ancestor,
    missing_below,
    names_beside,
)
from airflow_sm_git.clients.git_mirror import Mirror
from airflow_sm_git.clients.git_objects import Objects

# Generations to fetch before it must be all of them: a few hundred kilobytes of commits and trees.
_SOME = 500


class NotBefore(Exception):
    """A range's start does not come before its end. Internal to the clients."""


@dataclass(frozen=True)
class Walk:
    """Which commits to take on the way back; see :func:`airflow_sm_git.clients.git_history.commits`.

    :param tip: full SHA to start from.
    :param limit: how many commits at most; None for all.
    :param since: full SHA of a commit to stop before; it must come before ``tip``.
    :param before: pass over what was committed after this time.
    :param paths: pass over what changed none of these; normalised, ``.`` stands for anything.
    """

    tip: str
    limit: int | None = None
    since: str | None = None
    before: datetime | None = None
    paths: tuple[str, ...] = ()

    def depths(self) -> tuple[int, ...]:
        """How many generations to try with, one after the other."""
        if self.limit and not (self.since or self.before or self.paths):
            return (self.limit,)
        if self.before and not self.paths:
            return (_SOME,)  # further back the commits alone, without their trees, are less to fetch
        return (max(_SOME, 10 * (self.limit or 0)), WHOLE)


def walk_back(mirror: Mirror, kind: str, walk: Walk) -> list[CommitInfo]:
    """The commits of a walk, newest first. Their trees are in the repository then, too.

    With ``before`` alone only the newest few hundred commits are looked through.

    :param kind: ``objects`` or ``full``.
    :raises NotBefore: ``since`` is neither the tip nor before it.
    :raises Refused: the remote will not give the tip by name.
    :raises RemoteError: the remote cannot be read.
    """
    *some, most = (WHOLE,) if mirror.has_whole_history(kind) else walk.depths()
    for depth in some:
        found, enough = _walk_through(mirror, kind, walk, depth)
        if enough:
            return found
    return _walk_through(mirror, kind, walk, most)[0]


def _walk_through(mirror: Mirror, kind: str, walk: Walk, depth: int) -> tuple[list[CommitInfo], bool]:
    attempt = _Attempt(mirror, kind, walk, depth)
    with mirror.having(kind, attempt.look, attempt.fetch) as (_, found):
        return found


class _Attempt:
    """A walk through so many generations, which are fetched if they are not there yet."""

    def __init__(self, mirror: Mirror, kind: str, walk: Walk, depth: int) -> None:
        self._mirror = mirror
        self._kind = kind
        self._walk = walk
        self._depth = depth
        self._fetched = False

    def fetch(self, fetcher: Fetcher) -> None:
        if self._kind == "full":
            fetcher.refs(*EVERYTHING)
        else:
            fetcher.commits([self._walk.tip], self._depth)
        self._fetched = True

    def look(self, objects: Objects) -> tuple[list[CommitInfo], bool] | None:
        """What was found, and whether more history could not change it; None if more is to be fetched first."""
        walk = self._walk
        chain = first_parents(objects, walk.tip)
        is_cut = chain[-1] in self._mirror.cut(self._kind)
        reaches_start = walk.since in chain
        if is_cut and len(chain) < self._depth and not reaches_start and not self._fetched:
            return None
        if walk.since and not reaches_start:
            if is_cut:
                return [], False
            if not is_ancestor(objects, walk.since, walk.tip):
                raise NotBefore
        paths = () if "." in walk.paths else walk.paths
        found = commits(objects, walk.tip, walk.limit, since=walk.since, before=walk.before, paths=paths)
        if is_cut and paths and found and found[-1].commit == chain[-1]:
            found.pop()  # without its parent it looks as if it had changed everything
        return found, not is_cut or reaches_start or len(found) == walk.limit


def bring_blobs(mirror: Mirror, kind: str, names: Sequence[str], paths: Sequence[str]) -> None:
    """Fetch what some commits have below ``paths``, all in one, so that packaging them needs no remote.

    :param names: full SHAs of commits whose trees are in the repository.
    :raises RemoteError: the remote cannot be read.
    """
    missing: list[str] = []

    def look(objects: Objects) -> bool | None:
        missing[:] = missing_below(objects, names, _with_attributes(paths)) if names else []
        return None if missing else True

    with mirror.having(kind, look, lambda fetcher: fetcher.blobs(missing)):
        return


def nearest(mirror: Mirror, kind: str, commit: str, paths: Sequence[str]) -> str:
    """What a commit has where ``paths`` were looked for, as a remedy."""
    look = partial(_nearest, commit=commit, paths=paths)
    with mirror.having(kind, look, lambda fetcher: fetcher.commits([commit])) as (_, remedy):
        return remedy


def _nearest(objects: Objects, *, commit: str, paths: Sequence[str]) -> str:
    names = [name for path in paths for name in names_beside(objects, commit, path)]
    near = [name for path in paths for name in difflib.get_close_matches(path, names, 1, 0.6)]
    if set(near) & set(paths):
        return "Choose a later time, or another branch."  # it is there, and came there later or by another way
    if near:
        return f"Did you mean {' or '.join(repr(name) for name in dict.fromkeys(near))}?"
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"There is {', '.join(repr(name) for name in names[:10])}{more}." if names else "It has no file at all."


def _with_attributes(paths: Sequence[str]) -> list[str]:
    """``paths``, and the ``.gitattributes`` of all directories above them, which packaging reads."""
    if "." in paths:
        return []
    parents = {path.rpartition("/")[0] for path in paths}
    for parent in list(parents):
        while parent:
            parent = parent.rpartition("/")[0]
            parents.add(parent)
    return [*paths, *sorted(f"{parent}/.gitattributes".lstrip("/") for parent in parents)]
