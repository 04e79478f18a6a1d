"""From what a user calls a ref to the object it names on the remote now."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_sm_git.clients.git_fetch import EVERYTHING
from airflow_sm_git.clients.git_history import commits_like
from airflow_sm_git.clients.git_mirror import Mirror
from airflow_sm_git.core.errors import BadParameter, NotSupported, RefNotFound
from airflow_sm_git.core.source import is_full_sha, is_short_sha


@dataclass(frozen=True)
class Tip:
    """What a ref names on the remote.

    :param sha: full object name: a commit's, or an annotated tag's if the user gave that.
    :param name: the ref as the user wrote it; the default branch's name if none was given.
    :param moves: whether it may name another commit at another time, as branches do.
    """

    sha: str
    name: str
    moves: bool


def find_tip(mirror: Mirror, ref: str | None, parameter: str = "ref") -> Tip:
    """Ask the remote what ``ref`` names.

    :param ref: branch, tag, ``refs/…``, full or short SHA; None or ``HEAD`` is the remote's HEAD.
    :param parameter: the name to blame in errors.
    :raises BadParameter: it names a branch and another tag, or several commits.
    :raises RefNotFound: it names nothing.
    """
    if ref is None or ref == "HEAD":
        return _head(mirror)
    if is_full_sha(ref):
        return Tip(ref, ref, moves=False)
    candidates = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}"]
    refs = mirror.list_remote(*(pattern for name in candidates for pattern in (name, f"{name}^{{}}")))
    found = [name for name in candidates if name in refs]
    commits = {_peeled(refs, name) for name in found}
    if len(commits) > 1:
        what = f"names {' and '.join(found)}, which are different commits."
        raise BadParameter(parameter, ref, what, f"Write {' or '.join(repr(name) for name in found)}.")
    if found:
        return Tip(_supported(_peeled(refs, found[0])), ref, moves=not found[0].startswith("refs/tags/"))
    if is_short_sha(ref):
        return _short(mirror, ref, parameter)
    raise _not_found(mirror, ref)


def _head(mirror: Mirror) -> Tip:
    refs = mirror.list_remote("HEAD")
    if "HEAD" not in refs:
        raise RefNotFound(f"{mirror.url} has no HEAD: it is empty, or its default branch is.", "Give a ref.")
    return Tip(_supported(refs["HEAD"]), refs.get("@", "HEAD"), moves=True)


def _peeled(refs: Mapping[str, str], name: str) -> str:
    return refs.get(f"{name}^{{}}", refs[name])


def _supported(sha: str) -> str:
    if not is_full_sha(sha):
        raise NotSupported("repo", sha, "a repository with SHA-256 object names is not supported yet.")
    return sha


def _short(mirror: Mirror, ref: str, parameter: str) -> Tip:
    mirror.update("history", lambda fetcher: fetcher.refs(*EVERYTHING))
    with mirror.reading("history") as objects:
        commits = commits_like(objects, ref)
    if len(commits) > 1:
        raise BadParameter(parameter, ref, f"is short for {len(commits)} commits.", f"Write one of {commits}.")
    if not commits:
        raise _not_found(mirror, ref)
    return Tip(commits[0], ref, moves=False)


def _not_found(mirror: Mirror, ref: str) -> RefNotFound:
    names = sorted(
        name.removeprefix("refs/heads/").removeprefix("refs/tags/")
        for name in mirror.list_remote("refs/heads/*", "refs/tags/*")
        if name.startswith("refs/") and not name.endswith("^{}")
    )
    near = difflib.get_close_matches(ref, names, 3, 0.6)
    if near:
        remedy = f"Did you mean {' or '.join(repr(name) for name in near)}?"
    elif names:
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        remedy = f"It has {', '.join(repr(name) for name in names[:10])}{more}."
    else:
        remedy = "It has no branch and no tag."
    return RefNotFound(f"{mirror.url} has no branch, tag or commit {ref!r}.", remedy)
