"""Build the demo's git repository on the spot, with the same commits on every machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from airflow_sm_git.core.errors import BadParameter, SmGitError
from airflow_sm_git.demo.corpus import CorpusStats, write_corpus
from airflow_sm_git.demo.history import STEPS, Step, read_versions

__all__ = ["METRIC_DEFINITIONS", "Commit", "Commits", "CorpusStats", "make_repository", "write_corpus"]

#: What train.py prints, as MetricDefinitions of CreateTrainingJob.
METRIC_DEFINITIONS = (
    {"Name": "validation:perplexity", "Regex": r"validation perplexity ([0-9.]+)"},
    {"Name": "initial:perplexity", "Regex": r"initial weights perplexity ([0-9.]+)"},
    {"Name": "unigram:perplexity", "Regex": r"add-one unigram perplexity ([0-9.]+)"},
)


@dataclass(frozen=True)
class Commit:
    """One commit: full SHA, first line of its message, author's name, time in ISO 8601."""

    sha: str
    subject: str
    author: str
    committed_at: str


@dataclass(frozen=True)
class Commits:
    """The repository at ``path`` and the commits of its branch ``main``, oldest first."""

    path: Path
    commits: tuple[Commit, ...]

    @property
    def url(self) -> str:
        """The repository as git, and so the operators, address it: a ``file://`` URL."""
        return self.path.as_uri()

    @property
    def shas(self) -> tuple[str, ...]:
        """Full SHAs, oldest first."""
        return tuple(commit.sha for commit in self.commits)

    @property
    def head(self) -> Commit:
        """The tip of ``main``."""
        return self.commits[-1]


def make_repository(path: Path) -> Commits:
    """Build the demo's repository at ``path``, with a working tree, or find it there.

    Authors, dates and content are fixed and the user's git configuration does not act, so the SHAs are the same
    everywhere. A repository that was built before is taken as it is, together with commits added to it since.

    :raises BadParameter: ``path`` holds something else.
    :raises SmGitError: git is missing or failed.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
        built = _build(Path(scratch) / "repository")
        if not _occupied(path):
            _place(Path(scratch) / "repository", path)
    commits = _read_commits(path) if (path / ".git").is_dir() else ()
    if tuple(commit.sha for commit in commits[: len(built)]) != tuple(commit.sha for commit in built):
        raise BadParameter(
            "path", str(path), "holds something else than the demo's repository.", "Move it away, or name another path."
        )
    return Commits(path, commits)


def _occupied(path: Path) -> bool:
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def _place(built: Path, path: Path) -> None:
    """Move the repository to its place in one step, so that nobody ever finds half of it."""
    try:
        built.rename(path)
    except OSError:
        if not _occupied(path):  # else someone was faster; what it put there is checked like any other
            raise


def _build(path: Path) -> tuple[Commit, ...]:
    _git("-c", "init.defaultBranch=main", "init", "--quiet", "--template=", "--object-format=sha1", str(path))
    git_dir = f"--git-dir={path / '.git'}"
    # A blobless fetch of a commit by its SHA, as from the hosts that people use.
    for key in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        _git(git_dir, "config", key, "true")
    _git(git_dir, "fast-import", "--quiet", stdin=_fast_import_stream(STEPS, read_versions()))
    _git(git_dir, f"--work-tree={path}", "reset", "--quiet", "--hard", "main")
    return _read_commits(path)


def _fast_import_stream(steps: Sequence[Step], versions: Sequence[dict[str, str]]) -> bytes:
    """Write the history in the format of ``git fast-import`` (its manual, "Input format")."""
    lines: list[bytes] = []

    def data(text: str) -> None:
        content = text.encode()
        lines.append(b"data %d\n%s" % (len(content), content))

    previous: dict[str, str] = {}
    for step, version in zip(steps, versions, strict=True):
        when = datetime.fromisoformat(step.date)
        person = f"{step.author} {int(when.timestamp())} {when:%z}"
        lines.append(f"commit refs/heads/main\nauthor {person}\ncommitter {person}".encode())
        data(step.message + "\n")
        for name, text in version.items():
            if previous.get(name) != text:
                lines.append(f"M 100644 inline {name}".encode())
                data(text)
        previous = version
    return b"\n".join([*lines, b""])


def _read_commits(path: Path) -> tuple[Commit, ...]:
    """Return the commits of ``main``, oldest first; none if there is no such branch."""
    git_dir = f"--git-dir={path / '.git'}"
    if not _git(git_dir, "for-each-ref", "refs/heads/main"):
        return ()
    log = _git(git_dir, "log", "--first-parent", "--reverse", "--format=%H%x00%s%x00%an%x00%cI", "refs/heads/main")
    return tuple(Commit(*line.split("\0")) for line in log.splitlines())


def _git(*arguments: str, stdin: bytes = b"") -> str:
    """Run git out of reach of the user's and the machine's configuration."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
    # For the reflog only: a user without an entry in passwd has no name, and git would complain.
    environment |= {"GIT_COMMITTER_NAME": "airflow-sm-git", "GIT_COMMITTER_EMAIL": "demo@example.com"}
    try:
        done = subprocess.run(["git", *arguments], input=stdin, capture_output=True, env=environment, check=False)
    except FileNotFoundError as error:
        raise SmGitError("The program git is not installed, or not on PATH.", "Install git 2.32 or newer.") from error
    if done.returncode:
        problem = done.stderr.decode(errors="replace").strip()
        raise SmGitError(f"git {' '.join(arguments)} ended with {done.returncode}: {problem}")
    return done.stdout.decode(errors="replace")
