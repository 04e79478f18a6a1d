"""What a commit says of itself in ``.gitattributes``; of all that can stand there, only ``export-ignore`` counts."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from airflow_sm_git.clients.git_objects import ObjectReader, Objects
from airflow_sm_git.core.errors import UnsafeTree
from airflow_sm_git.core.git_tree import Reader, find
from airflow_sm_git.core.tree import Selection

_FILE = ".gitattributes"
_LARGEST = 1 << 20


def attribute_files(read: Reader, root: str, chosen: Selection, directories: Iterable[str]) -> dict[str, str]:
    """The ``.gitattributes`` files that say something of what was chosen: object names by path.

    :param root: name of the commit's tree.
    :param directories: the directories that were chosen, from which what is ignored is left out.
    """
    files = {m.entry.path: m.entry.oid for m in chosen.members if posixpath.basename(m.entry.path) == _FILE}
    above = {parent for directory in directories for parent in _parents(directory)}
    for parent in above:
        path = f"{parent}/{_FILE}" if parent else _FILE
        found = find(read, root, path)
        if found and found[0].startswith("100"):
            files[path] = found[1]
    return files


def ignored(
    objects: Objects, reader: ObjectReader, files: Mapping[str, str], sizes: Mapping[str, int | None], paths: list[str]
) -> set[str]:
    """Those of the paths that are to be left out of archives, as git itself reads the files.

    :param files: what :func:`attribute_files` gave.
    :param sizes: bytes of each.
    :param paths: in the repository; directories end with a slash.
    """
    for path, name in files.items():
        if (sizes[name] or 0) > _LARGEST:
            raise UnsafeTree(f"{path!r} has {sizes[name]} bytes, more than {_LARGEST}.", "Write fewer attributes.")
    if not any(b"export-ignore" in b"".join(reader.blob(name)) for name in set(files.values())):
        return set()
    with tempfile.TemporaryDirectory(prefix="sm-git-") as folder:
        index = Path(folder) / "index"
        lines = "".join(f"100644 {name}\t{path}\0" for path, name in files.items())
        objects.run(["update-index", "-z", "--index-info"], lines.encode("utf-8", "surrogateescape"), index)
        asked = "".join(f"{path}\0" for path in paths).encode("utf-8", "surrogateescape")
        answer = objects.run(["check-attr", "-z", "--cached", "--stdin", "export-ignore"], asked, index)
    words = answer.decode("utf-8", "surrogateescape").split("\0")
    return {path for path, value in zip(words[::3], words[2::3], strict=False) if value == "set"}


def _parents(directory: str) -> list[str]:
    """The directories above one: attributes of what lies in it may stand there. The root is empty."""
    if directory == ".":
        return []
    parts = directory.split("/")
    return ["/".join(parts[:i]) for i in range(len(parts))]
