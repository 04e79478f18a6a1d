"""From a ref to a commit, and from a commit to a reproducible package."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from airflow_sm_git.clients.git_fetch import EVERYTHING
from airflow_sm_git.clients.git_history import CommitInfo, commits, is_ancestor, last_before
from airflow_sm_git.clients.git_mirror import Mirror, MirrorCache, Refused
from airflow_sm_git.clients.git_objects import Objects
from airflow_sm_git.clients.git_package import PackageInfo, Packager, Target
from airflow_sm_git.clients.git_process import GitRunner
from airflow_sm_git.clients.git_ranges import NotBefore, Walk, bring_blobs, nearest, walk_back
from airflow_sm_git.clients.git_reading import having_commit, read, sturdy
from airflow_sm_git.clients.git_refs import Tip, find_tip
from airflow_sm_git.core.choice import Content
from airflow_sm_git.core.credentials import Login
from airflow_sm_git.core.errors import BadParameter, CommitGone, GitError, RefNotFound
from airflow_sm_git.core.limits import DEFAULTS, Limits
from airflow_sm_git.core.source import Source, check_path, is_full_sha
from airflow_sm_git.core.urls import check_url, web_url

_T = TypeVar("_T")
_BESIDES = 64 << 20  # bytes of trees and commits that may come with the files of a package


@dataclass(frozen=True)
class ResolvedCommit:
    """One commit of one repository.

    :param repo: URL, without credentials.
    :param ref: what it was resolved from, as the user wrote it; for the remote's HEAD the branch it stands for.
    :param commit: full SHA.
    :param tree: full object name of its tree.
    :param committed_at: ISO 8601 in UTC, such as ``2026-01-31T12:00:00Z``.
    :param author: ``Name <address>``.
    :param subject: first line of the message.
    :param web_url: its page at a known host, or None.
    """

    repo: str
    ref: str
    commit: str
    tree: str
    committed_at: str
    author: str
    subject: str
    web_url: str | None


class GitClient:
    """Reads remote repositories through a cache of mirrors. Losing the cache costs time, never correctness.

    :param cache_dir: folder of the mirrors; made when needed.
    :param allowed_schemes: URL schemes besides https and ssh, such as ``file``.
    :param credentials: login for the remotes; None leaves it to the machine's own credential helper.
    :param timeout: seconds that one git command may take.
    :param cache_size: bytes that the mirrors may take together.
    :param limits: how much a package may hold.
    """

    def __init__(
        self,
        cache_dir: Path,
        *,
        allowed_schemes: Collection[str] = (),
        credentials: Login | None = None,
        timeout: float = 600.0,
        cache_size: int = 10 << 30,
        limits: Limits = DEFAULTS,
    ) -> None:
        self._limits = limits
        self._allowed_schemes = allowed_schemes
        self._home = cache_dir / "home"
        runner = GitRunner(self._home, allowed_schemes=allowed_schemes, credentials=credentials, timeout=timeout)
        largest = limits.max_package_size + _BESIDES
        self._cache = MirrorCache(cache_dir / "mirrors", runner, size=cache_size, timeout=timeout, largest=largest)

    def resolve(
        self,
        source: Source,
        *,
        as_of: datetime | None = None,
        pinned: str | None = None,
        paths: Sequence[str] = (),
    ) -> ResolvedCommit:
        """Find the one commit that a source names.

        :param source: only its URL, ref and commit are read; credentials are the client's.
        :param as_of: take the last commit on the branch, along first parents, at or before this time (with a zone).
        :param pinned: full SHA to take instead of resolving anything.
        :param paths: take the last commit, along first parents, that changed one of these files or directories.
        :raises BadParameter: an ambiguous ref, a commit off its branch, ``as_of`` with something that is no branch,
            a malformed path.
        :raises RefNotFound: the remote has no such ref, or no commit changed the paths.
        :raises CommitGone: the remote no longer has the pinned commit.
        :raises RemoteError: the remote cannot be read.
        """
        mirror = self._mirror(source.url)
        if pinned:
            _check_sha("pinned", pinned)
            commit = self._commit(mirror, pinned, _gone(source.url, pinned))
            return _resolved(source.url, source.ref or source.commit or "HEAD", commit)
        paths = _checked(paths)
        tip = _tip(mirror, source.commit, "commit") if source.commit else _tip(mirror, source.ref)
        _check_time(as_of, tip)
        if paths:
            commit = self._last_change(mirror, tip, as_of, paths)
        else:
            commit = self._as_of(mirror, tip, as_of) if as_of else self._commit(mirror, tip.sha)
        if source.commit and source.ref:
            self._check_on_branch(mirror, commit.commit, _tip(mirror, source.ref))
        return _resolved(source.url, source.ref or tip.name, commit)

    def commits(
        self, source: Source, *, since: str | None = None, limit: int | None = None, paths: Sequence[str] = ()
    ) -> list[ResolvedCommit]:
        """The commits of a branch along first parents, oldest first, fetched once for all.

        To package one of them needs no remote for its trees; with ``paths``, nor for what lies below those.

        :param source: its ref, or commit, is the end of the range, which belongs to it.
        :param since: ref of the commit before the first one, which must come before the end; None for all.
        :param limit: how many at most, counted from the end; None for all.
        :param paths: only commits that changed one of these files or directories.
        :raises BadParameter: the limit is not positive, a malformed path, a range that runs backwards.
        :raises RefNotFound: the remote has no such ref.
        :raises RemoteError: the remote cannot be read.
        """
        if limit is not None and limit < 1:
            raise BadParameter("limit", limit, "must be at least 1.")
        paths = _checked(paths)
        mirror = self._mirror(source.url)
        tip = _tip(mirror, source.commit or source.ref)
        start = _tip(mirror, since, "since").sha if since else None
        try:
            found = self._range(mirror, Walk(tip.sha, limit, start, None, paths))
        except NotBefore:
            # Of all refs only the SHA of an annotated tag is not the commit's own.
            peeled = self._commit(mirror, start or "").commit
            try:
                found = self._range(mirror, Walk(tip.sha, limit, peeled, None, paths))
            except NotBefore:
                problem = f"does not come before {tip.name!r} ({tip.sha})."
                raise BadParameter("since", since, problem, "Turn the range round, or name a commit on it.") from None
        return [_resolved(source.url, tip.name, commit) for commit in reversed(found)]

    def package(
        self,
        repo_url: str,
        commit: str,
        *,
        source_dir: str | None,
        entry_point: str,
        dependencies: Sequence[str] = (),
        submodules: bool = False,
        out: BinaryIO,
        manifest: BinaryIO | None = None,
    ) -> PackageInfo:
        """Write the package of a commit.

        :param repo_url: remote URL.
        :param commit: full SHA.
        :param source_dir: directory whose children become the archive's root; None for the entry point alone.
        :param entry_point: script, relative to ``source_dir``, else to the repository's root.
        :param dependencies: further files and directories, put at the root under their base names.
        :param submodules: package the files of submodules too, at the commits that are recorded; else they are refused.
        :param out: binary file, written from where it stands; it must be seekable.
        :param manifest: as ``out``, for the package's manifest (:mod:`airflow_sm_git.core.manifest`).
        :raises BadParameter: a malformed path, two things for one name.
        :raises CommitGone: the remote no longer has the commit.
        :raises PathNotFound: the commit lacks a path.
        :raises UnsafeTree: the chosen files hold something that must not be packaged.
        :raises RemoteError: the remote cannot be read.
        """
        _check_sha("commit", commit)
        mirror = self._mirror(repo_url)
        content = Content(source_dir, entry_point, tuple(dependencies), submodules)
        check = partial(check_url, allowed_schemes=self._allowed_schemes, parameter="submodules")
        packager = Packager(mirror, commit, content, self._limits, check)
        return read(mirror, commit, _gone(repo_url, commit), partial(packager.write, Target(out, manifest)))

    def _mirror(self, url: str) -> Mirror:
        url = check_url(url, self._allowed_schemes)
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._cache.mirror(url)

    def _commit(self, mirror: Mirror, sha: str, missing: GitError | None = None) -> CommitInfo:
        def look(kind: str) -> CommitInfo:
            with having_commit(mirror, kind, sha, lambda objects: commits(objects, sha, 1)) as (objects, found):
                if not found:
                    what = objects.infos([sha])[sha].kind
                    raise RefNotFound(f"{sha} is a {what}, not a commit.", "Name a branch, tag or commit.")
                return found[0]

        return read(mirror, sha, missing or _unknown(mirror, sha), look)

    def _last_change(self, mirror: Mirror, tip: Tip, when: datetime | None, paths: tuple[str, ...]) -> CommitInfo:
        def look(kind: str) -> CommitInfo:
            found = walk_back(mirror, kind, Walk(tip.sha, 1, before=when, paths=paths))
            if found:
                return found[0]
            until = f" at or before {when.isoformat()}" if when else ""
            names = " or ".join(map(repr, paths))
            what = f"No commit of {tip.name!r} ({tip.sha}){until} changed {names}."
            raise RefNotFound(what, nearest(mirror, kind, tip.sha, paths))

        return read(mirror, tip.sha, _unknown(mirror, tip.sha), look)

    def _range(self, mirror: Mirror, walk: Walk) -> list[CommitInfo]:
        def look(kind: str) -> list[CommitInfo]:
            found = walk_back(mirror, kind, walk)
            if walk.paths:
                bring_blobs(mirror, kind, [commit.commit for commit in found], walk.paths)
            return found

        return read(mirror, walk.tip, _unknown(mirror, walk.tip), look)

    def _with_history(self, mirror: Mirror, tip: Tip, action: Callable[[Objects], _T]) -> _T:
        def once() -> _T:
            with mirror.holding("history", [tip.sha], lambda fetcher: fetcher.history([tip.sha])) as (objects, _):
                return action(objects)

        try:
            return sturdy(mirror, once)
        except Refused:  # no branch ends there, and the remote gives no other commit by name
            mirror.update("history", lambda fetcher: fetcher.refs(*EVERYTHING))
        try:
            return sturdy(mirror, once)
        except Refused:
            raise RefNotFound(f"The remote no longer has {tip.sha}.", "It moved just now: try again.") from None

    def _as_of(self, mirror: Mirror, tip: Tip, when: datetime) -> CommitInfo:
        recent = Walk(tip.sha, 1, before=when)
        near = read(mirror, tip.sha, _unknown(mirror, tip.sha), lambda kind: walk_back(mirror, kind, recent))
        if near:
            return near[0]
        found = self._with_history(mirror, tip, lambda objects: last_before(objects, tip.sha, when))
        if found is None:
            raise RefNotFound(f"{tip.name!r} has no commit at or before {when.isoformat()}.", "Choose a later time.")
        return self._commit(mirror, found)

    def _check_on_branch(self, mirror: Mirror, commit: str, tip: Tip) -> None:
        if not self._with_history(mirror, tip, lambda objects: is_ancestor(objects, commit, tip.sha)):
            raise BadParameter("commit", commit, f"is not on {tip.name!r}.", "Leave out the branch, or correct one.")


def _tip(mirror: Mirror, ref: str | None, parameter: str = "ref") -> Tip:
    return sturdy(mirror, lambda: find_tip(mirror, ref, parameter))


def _check_time(when: datetime | None, tip: Tip) -> None:
    if when and when.tzinfo is None:
        raise BadParameter("as_of", str(when), "has no time zone.", "Add one, such as +00:00.")
    if when and not tip.moves:
        raise BadParameter("as_of", str(when), f"{tip.name!r} is not a branch: it is the same at all times.")


def _checked(paths: Sequence[str]) -> tuple[str, ...]:
    if isinstance(paths, str):
        raise BadParameter("paths", paths, "must be a list of paths.", f"Write [{paths!r}].")
    return tuple(check_path("paths", path) for path in paths)


def _unknown(mirror: Mirror, sha: str) -> RefNotFound:
    return RefNotFound(f"{mirror.url} has no commit {sha}.", "Has it been pushed?")


def _resolved(url: str, ref: str, commit: CommitInfo) -> ResolvedCommit:
    return ResolvedCommit(repo=url, ref=ref, **asdict(commit), web_url=web_url(url, commit.commit))


def _check_sha(parameter: str, value: str) -> None:
    if not is_full_sha(value):
        raise BadParameter(parameter, value, "must be a full SHA.", "Resolve it first.")


def _gone(url: str, sha: str) -> CommitGone:
    return CommitGone(
        f"{url} no longer has the commit {sha} that this run is pinned to.",
        "Push it again, or clear the run with repin=True to take what the ref names now.",
    )
