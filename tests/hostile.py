"""Commits that git itself would not make: objects written byte by byte into a repository."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable

from tests.git_server import Repository

FILE, EXECUTABLE, LINK, DIRECTORY, SUBMODULE = b"100644", b"100755", b"120000", b"40000", b"160000"
Line = tuple[bytes, bytes, str]


class Forge:
    """Writes loose objects.

    :param repository: where to.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def write(self, kind: str, content: bytes) -> str:
        """One object; returns its name."""
        whole = f"{kind} {len(content)}\0".encode() + content
        name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        path = self._repository.path / "objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(whole, 1))
        return name

    def blob(self, content: bytes = b"x") -> str:
        """A blob."""
        return self.write("blob", content)

    def tree(self, *lines: Line) -> str:
        """A tree of modes, names and object names, in the order given."""
        return self.write("tree", encoded(lines))

    def commit(self, tree: str, message: bytes = b"x") -> str:
        """A commit, to which ``main`` is moved."""
        who = b"A <a@example.com> 1704067200 +0000"
        name = self.write("commit", b"tree %s\nauthor %s\ncommitter %s\n\n%s\n" % (tree.encode(), who, who, message))
        (self._repository.path / "refs/heads/main").write_text(f"{name}\n")
        return name


def encoded(lines: Iterable[Line]) -> bytes:
    """The content of a tree object."""
    return b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in lines)
