"""Git's tree objects: what they hold, and a walk through them that no tree can make endless."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from airflow_sm_git.core.errors import UnsafeTree
from airflow_sm_git.core.tree import EXECUTABLE, SUBMODULE, SYMLINK, TreeEntry

FILE = "100644"
DIRECTORY = "40000"
_LONGEST_PATH = 4095  # PATH_MAX of Linux, without the NUL
_LONGEST_NAME = 255  # NAME_MAX of Linux
_REMEDY = "Remove it from the commit, or choose a source_dir without it."

Reader = Callable[[str], bytes]
"""Gives the content of a tree object by its name."""


def parse_tree(content: bytes, where: str = "") -> list[tuple[str, str, str]]:
    """Mode, file name and object name of each entry of a tree object, in its order.

    Modes are those of :mod:`airflow_sm_git.core.tree`, :data:`FILE` and :data:`DIRECTORY`. File names that are not
    UTF-8 hold surrogates.

    :param content: the object (git's Documentation, "Git Internals - Git Objects": mode, space, name, NUL, 20 bytes).
    :param where: path of the directory, for errors.
    :raises UnsafeTree: it is malformed, or holds what is neither file, link, directory nor submodule.
    """
    entries = []
    position = 0
    while position < len(content):
        space, nul = content.find(b" ", position), content.find(b"\0", position)
        if not position < space < nul or nul + 21 > len(content):
            raise UnsafeTree(f"The directory {where or '.'!r} of the commit is malformed.", _REMEDY)
        name = content[space + 1 : nul].decode("utf-8", "surrogateescape")
        path = f"{where}/{name}" if where else name
        if not name or "/" in name:
            raise UnsafeTree(f"The directory {where or '.'!r} of the commit holds the name {name!r}.", _REMEDY)
        entries.append((_mode(content[position:space], path), name, content[nul + 1 : nul + 21].hex()))
        position = nul + 21
    return entries


def _mode(written: bytes, path: str) -> str:
    text = written.decode("ascii", "replace").lstrip("0")
    if text in {DIRECTORY, SYMLINK, SUBMODULE}:
        return text
    if len(text) == 6 and text.startswith("100") and set(text) <= set("01234567"):  # of old gits, 100664 for instance
        return EXECUTABLE if int(text, 8) & 0o100 else FILE
    raise UnsafeTree(f"{path!r} has the mode {text!r}, which is neither a file's nor a link's.", _REMEDY)


def find(read: Reader, root: str, path: str) -> tuple[str, str] | None:
    """Mode and object name of what lies at a path; None if nothing does.

    :param root: object name of the tree to start from.
    :param path: normalised; ``.`` is the root itself.
    """
    mode, name, where = DIRECTORY, root, ""
    for part in () if path == "." else path.split("/"):
        if mode != DIRECTORY:
            return None
        entry = next((e for e in parse_tree(read(name), where) if e[1] == part), None)
        if entry is None:
            return None
        mode, _, name = entry
        where = f"{where}/{part}" if where else part
    return mode, name


def walk(read: Reader, root: str, where: str = "", *, most: int) -> Iterator[TreeEntry]:
    """Everything below a tree but the directories themselves.

    :param root: object name of the tree.
    :param where: its path in the repository, with which the entries' paths begin.
    :param most: entries and directories to take before it is too much.
    :raises UnsafeTree: there are more, a path is too long, or a tree is malformed.
    """
    todo = [(where, root)]
    seen = 0
    while todo:
        directory, name = todo.pop()
        below = []
        for mode, inner, oid in parse_tree(read(name), directory):
            path = f"{directory}/{inner}" if directory else inner
            seen += 1
            if seen > most:
                raise TooMany(most)
            if len(_bytes(path)) > _LONGEST_PATH or len(_bytes(inner)) > _LONGEST_NAME:
                sizes = f"{len(_bytes(path))} bytes, its last part {len(_bytes(inner))}"
                raise UnsafeTree(f"The path {path[:60]!r}… is too long: {sizes}.", _REMEDY)
            if mode == DIRECTORY:
                below.append((path, oid))
            else:
                yield TreeEntry(path, mode, oid)
        todo.extend(reversed(below))


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


class TooMany(UnsafeTree):
    """More files than a package may hold.

    :param most: how many it may.
    """

    def __init__(self, most: int) -> None:
        remedy = "Choose a source_dir with fewer, or raise [sm_git] max_files."
        super().__init__(f"There are more than {most} files and directories in what is to be packaged.", remedy)
        self.args = (most,)  # what pickle hands back to __init__
