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


def commits(objects: Objects, name: str, limit: int, *, first_parent: bool = True) -> list[CommitInfo]:
    """A commit and those before it along first parents, newest first.

    :param limit: how many at most.
    """
    walk = ["--first-parent"] if first_parent else []
    output = objects.run(["log", f"--max-count={limit}", *walk, "--no-show-signature", _LOG_FORMAT, name, "--"])
    fields = output.decode("utf-8", "replace").split("\0")
    return [_commit_info(fields[i : i + 5]) for i in range(0, len(fields) - 5, 5)]


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
