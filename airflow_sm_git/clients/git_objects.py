"""Reads commits, trees and blobs of a repository on this machine. Never reaches a remote."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_sm_git.clients.git_process import CommandFailed, GitRunner
from airflow_sm_git.core.errors import UnsafeTree

_CHUNK = 1 << 16
_AT_ONCE = 400  # questions of 50 bytes each: neither they nor their answers fill a pipe
_LARGEST_COMMIT = 1 << 20
_LARGEST_TREE = 32 << 20
_SMALL_TREE = 1 << 14
_TREES_KEPT = 256


class BrokenMirror(Exception):
    """What lies on the disk is not what git put there. Internal to the clients, which then fetch again."""


@dataclass(frozen=True, slots=True)
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

    @contextlib.contextmanager
    def reader(self) -> Iterator[ObjectReader]:
        """Read objects through one git process."""
        with self._runner.open(self._directory, ["cat-file", "--batch-command"]) as process:
            yield ObjectReader(process)

    def run(self, arguments: Sequence[str], stdin: bytes = b"", index: Path | None = None) -> bytes:
        """Run a local git command.

        :param index: file to be git's index.
        :raises BrokenMirror: it failed, as none of ours does in a sound repository.
        """
        try:
            return self._runner.run(self._directory, arguments, stdin=stdin, index=index)
        except CommandFailed as error:
            raise BrokenMirror(error.stderr) from error

    def holds_true(self, arguments: Sequence[str]) -> bool:
        """Run a local git command whose answer is its status."""
        try:
            self._runner.run(self._directory, arguments)
        except CommandFailed:
            return False
        return True


class ObjectReader:
    """Reads objects one after another, and checks that each is what its name says."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self._trees: dict[str, bytes] = {}

    def infos(self, names: Iterable[str]) -> Iterator[tuple[str, ObjectInfo | None]]:
        """Type and size of each object, None where it is not there; to be read to the end before anything else."""
        left = iter(names)
        while some := list(islice(left, _AT_ONCE)):
            self._send(*(f"info {name}" for name in some))
            for name in some:
                yield name, self._header(name)

    def commit_tree(self, commit: str) -> str | None:
        """The name of a commit's tree; None if the commit is not there."""
        info = self._info(commit)
        if info is None:
            return None
        if info.kind != "commit" or info.size > _LARGEST_COMMIT:
            raise UnsafeTree(f"{commit} is a {info.kind} of {info.size} bytes, not a usable commit.")
        self._ask(commit, info)
        first = b"".join(self._content(commit, info)).partition(b"\n")[0].decode("ascii", "replace")
        kind, _, name = first.partition(" ")
        if kind != "tree":
            raise BrokenMirror(f"{commit} names no tree")
        return name

    def tree(self, name: str) -> bytes:
        """The content of a tree object.

        :raises BrokenMirror: it is missing, or not what its name says.
        :raises UnsafeTree: it is too large to be held in memory.
        """
        if name not in self._trees:
            info = self._info(name)
            if info is None or info.kind != "tree":
                raise BrokenMirror(f"{name} is not a tree: {info!r}")
            if info.size > _LARGEST_TREE:
                what = f"The commit has a directory of {info.size} bytes of names alone (tree {name})."
                raise UnsafeTree(what, "Remove it from the commit, or choose a source_dir without it.")
            self._ask(name, info)
            content = b"".join(self._content(name, info))
            if len(content) > _SMALL_TREE:
                return content
            if len(self._trees) >= _TREES_KEPT:
                self._trees.clear()
            self._trees[name] = content
        return self._trees[name]

    def blob(self, name: str) -> Iterator[bytes]:
        """The content of a blob in chunks; to be read to its end before anything else.

        :raises BrokenMirror: it is missing or not what its name says.
        """
        self._send(f"contents {name}")  # git streams large blobs, and them alone
        info = self._header(name)
        if info is None or info.kind != "blob":
            raise BrokenMirror(f"{name} is not a blob: {info!r}")
        yield from self._content(name, info)

    def _info(self, name: str) -> ObjectInfo | None:
        self._send(f"info {name}")
        return self._header(name)

    def _ask(self, name: str, expected: ObjectInfo) -> None:
        """Ask for the content of an object that git will hold in memory, once its size is known to be small."""
        self._send(f"contents {name}")
        if self._header(name) != expected:
            raise BrokenMirror(f"{name} is not what it was a moment ago")

    def _send(self, *commands: str) -> None:
        try:
            self._process.stdin.write("".join(f"{command}\n" for command in commands).encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise BrokenMirror("git ended before it was asked") from error

    def _header(self, name: str) -> ObjectInfo | None:
        words = self._process.stdout.readline().decode("ascii", "replace").split()
        if len(words) == 2 and words[1] == "missing":
            return None
        if len(words) != 3 or words[0] != name:
            raise BrokenMirror(f"git says {words!r} of {name}")
        return ObjectInfo(words[1], int(words[2]))

    def _content(self, name: str, info: ObjectInfo) -> Iterator[bytes]:
        left = info.size
        digest = hashlib.sha1(f"{info.kind} {left}\0".encode(), usedforsecurity=False)  # git's object name
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
