"""Reads commits, trees and blobs of a repository on this machine. Never reaches a remote."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_sm_git.clients.git_process import CommandFailed, GitRunner
from airflow_sm_git.core.tree import TreeEntry

_CHUNK = 1 << 16


class BrokenMirror(Exception):
    """What lies on the disk is not what git put there. Internal to the clients, which then fetch again."""


@dataclass(frozen=True)
class ObjectInfo:
    """Type (``commit``, ``tree``, ``blob``, ``tag``) and size in bytes of an object."""

    kind: str
    size: int


class Objects:
    """The objects of one bare repository.

    :param directory: the repository.
    """

    def __init__(self, runner: GitRunner, directory: Path) -> None:
        self._runner = runner
        self._directory = directory

    def infos(self, names: Collection[str]) -> dict[str, ObjectInfo]:
        """Type and size of those of the objects that are there."""
        output = self.run(["cat-file", "--batch-check", "--buffer"], "".join(f"{name}\n" for name in names).encode())
        found: dict[str, ObjectInfo] = {}
        for line in output.decode().splitlines():
            name, _, rest = line.partition(" ")
            kind, _, size = rest.partition(" ")
            if size:
                found[name] = ObjectInfo(kind, int(size))
        return found

    def peel(self, name: str) -> str | None:
        """The commit that a tag points to in the end; None if it is not a commit."""
        try:
            arguments = ["rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
            return self._runner.run(self._directory, arguments).decode().strip()
        except CommandFailed:
            return None

    def tree(self, commit: str) -> list[TreeEntry]:
        """All files, symlinks and submodules of a commit."""
        entries = []
        for line in self.run(["ls-tree", "-r", "-z", "--full-tree", commit]).split(b"\0"):
            if line:
                head, _, path = line.partition(b"\t")
                mode, _, name = head.decode().split(" ")
                entries.append(TreeEntry(path.decode("utf-8", "surrogateescape"), mode, name))
        return entries

    @contextlib.contextmanager
    def blobs(self) -> Iterator[BlobReader]:
        """Read blobs through one git process."""
        with self._runner.open(self._directory, ["cat-file", "--batch"]) as process:
            yield BlobReader(process)

    def run(self, arguments: Sequence[str], stdin: bytes = b"") -> bytes:
        """Run a local git command.

        :raises BrokenMirror: it failed, as none of ours does in a sound repository.
        """
        try:
            return self._runner.run(self._directory, arguments, stdin=stdin)
        except CommandFailed as error:
            raise BrokenMirror(error.stderr) from error

    def holds_true(self, arguments: Sequence[str]) -> bool:
        """Run a local git command whose answer is its status."""
        try:
            self._runner.run(self._directory, arguments)
        except CommandFailed:
            return False
        return True


class BlobReader:
    """Reads blobs one after another, and checks that each is what its name says."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def read(self, name: str) -> Iterable[bytes]:
        """The content of a blob in chunks; to be read to its end before the next.

        :raises BrokenMirror: it is missing or not what its name says.
        """
        try:
            self._process.stdin.write(f"{name}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise BrokenMirror(f"git ended before it gave {name}") from error
        header = self._process.stdout.readline().split()
        if len(header) != 3 or header[1] != b"blob":
            raise BrokenMirror(f"{name} is not a blob: {header!r}")
        left = int(header[2])
        digest = hashlib.sha1(b"blob %d\0" % left, usedforsecurity=False)  # git's object name
        while left:
            chunk = self._process.stdout.read(min(left, _CHUNK))
            if not chunk:
                raise BrokenMirror(f"git ended within {name}")
            left -= len(chunk)
            digest.update(chunk)
            if not left and digest.hexdigest() != name:
                raise BrokenMirror(f"{name} is not what its name says")
            yield chunk
        self._process.stdout.read(1)
