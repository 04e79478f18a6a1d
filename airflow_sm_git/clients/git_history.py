"""What came when: commits, one after another, of a repository on this machine. Never reaches a remote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_sm_git.clients.git_objects import Objects

_LOG_FORMAT = "--format=tformat:%H%x00%T%x00%ct%x00%an <%ae>%x00%s%x00"


@dataclass(frozen=True)
class CommitInfo:
    """What a commit says about itself; the time in ISO 8601, UTC."""

    commit: str
    tree: str
    committed_at: str
    author: str
    subject: str


def commits(
    objects: Objects,
    name: str,
    limit: int | None,
    *,
    since: str | None = None,
    before: datetime | None = None,
    paths: Sequence[str] = (),
) -> list[CommitInfo]:
    """A commit and those before it along first parents, newest first.

    :param name: commit, or a tag of one; there is no commit in anything else.
    :param limit: how many at most; None for all.
    :param since: leave out this commit and all that came before it.
    :param before: leave out those that were committed after this time.
    :param paths: take only those that changed one of these, as they are spelt, against their first parent.
    """
    chosen = [f"--max-count={limit}"] if limit is not None else []
    chosen += [f"--min-age={int(before.timestamp())}"] if before else []
    chosen += [f"^{since}"] if since else []
    ask = ["log", "--first-parent", "--no-show-signature", _LOG_FORMAT, *chosen, name, "--", *literal(paths)]
    fields = objects.run(ask).decode("utf-8", "replace").split("\0")
    return [_commit_info(fields[i : i + 5]) for i in range(0, len(fields) - 5, 5)]


def literal(paths: Sequence[str]) -> list[str]:
    """Pathspecs of which no character has a meaning to git (gitglossary(7), pathspec)."""
    return [f":(literal){path}" for path in paths]


def first_parents(objects: Objects, name: str) -> list[str]:
    """Full names of a commit and all before it along first parents, newest first."""
    return objects.run(["rev-list", "--first-parent", name, "--"]).decode().split()


def missing_below(objects: Objects, names: Sequence[str], paths: Sequence[str]) -> list[str]:
    """The blobs below ``paths`` that the trees of some commits name, and that are not here."""
    stdin = "".join(f"{line}\n" for line in (*names, "--", *literal(paths))).encode("utf-8", "surrogateescape")
    ask = ["rev-list", "--objects", "--no-object-names", "--no-walk", "--missing=print", "--stdin"]
    return [line[1:] for line in objects.run(ask, stdin).decode().split() if line.startswith("?")]


def names_beside(objects: Objects, commit: str, path: str) -> list[str]:
    """What lies in the innermost directory that leads to a path and exists; paths from the root."""
    parent = path
    while parent:
        parent = parent.rpartition("/")[0]
        found = objects.run(["ls-tree", "--name-only", "-z", commit, "--", *([f"{parent}/"] if parent else [])])
        if found:
            return [name.decode("utf-8", "surrogateescape") for name in found.split(b"\0") if name]
    return []


def last_before(objects: Objects, tip: str, when: datetime) -> str | None:
    """The last commit along first parents of ``tip`` that was committed at or before ``when``."""
    arguments = ["rev-list", "--max-count=1", "--first-parent", f"--min-age={int(when.timestamp())}", tip, "--"]
    return objects.run(arguments).decode().strip() or None


def is_ancestor(objects: Objects, commit: str, tip: str) -> bool:
    """Whether ``commit`` is ``tip`` or comes before it."""
    return objects.holds_true(["merge-base", "--is-ancestor", commit, tip])


def commits_like(objects: Objects, prefix: str) -> list[str]:
    """Full names of the commits whose names begin with ``prefix``."""
    names = objects.run(["rev-parse", f"--disambiguate={prefix}"]).decode().split()
    return [name for name, info in objects.infos(names).items() if info.kind == "commit"] if names else []


def _commit_info(fields: Sequence[str]) -> CommitInfo:
    commit, tree, seconds, author, subject = fields
    when = datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return CommitInfo(commit.strip(), tree, when, author, subject)
