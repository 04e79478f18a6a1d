"""Puts the files of submodules into their places.

Their objects go into the mirror of the repository that they are submodules of: an object is what its name says,
wherever it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_sm_git.clients.git_objects import ObjectReader, Objects
from airflow_sm_git.core.errors import UnsafeTree
from airflow_sm_git.core.git_tree import find, walk
from airflow_sm_git.core.submodules import MOST_NESTED, read_modules, resolve_url
from airflow_sm_git.core.tree import SUBMODULE, TreeEntry

_FILE = ".gitmodules"
_LARGEST = 1 << 20


class Wanting(Exception):
    """Something has to be fetched first. Internal to the clients.

    :param url: from where.
    :param name: object name.
    :param kind: ``commit`` or ``blob``.
    :param why: what to say if it cannot be had.
    """

    def __init__(self, url: str, name: str, kind: str, why: str) -> None:
        super().__init__(url, name, kind, why)
        self.url = url
        self.name = name
        self.kind = kind
        self.why = why


@dataclass
class Submodules:
    """The submodules of one commit, and theirs.

    :param reader: reads the mirror that has all their objects.
    :param check_url: returns a URL that git may be run on, or raises.
    :param most: files that all of them together may have.
    :param origins: where blobs are to be fetched from, by object name; those of the commit itself are not in it.
    """

    objects: Objects
    reader: ObjectReader
    check_url: Callable[[str], str]
    most: int
    origins: dict[str, str] = field(default_factory=dict)

    def expand(self, entries: list[TreeEntry], url: str, tree: str, at: str = "", depth: int = 0) -> list[TreeEntry]:
        """The entries, with files in place of submodules.

        :param entries: with paths in the outermost repository.
        :param url: of the repository that they belong to.
        :param tree: name of its commit's tree.
        :param at: where that repository lies in the outermost one.
        :raises Wanting: something has to be fetched first.
        :raises UnsafeTree: a submodule that ``.gitmodules`` does not name, or too many within one another.
        """
        if not any(entry.mode == SUBMODULE for entry in entries):
            return entries
        if depth >= MOST_NESTED:
            raise UnsafeTree(f"The submodules below {at!r} lie more than {MOST_NESTED} deep in one another.")
        urls = self._modules(url, tree, at)
        found: list[TreeEntry] = []
        for entry in entries:
            found += [entry] if entry.mode != SUBMODULE else self._inside(entry, urls, url, at, depth)
            if len(found) > self.most:
                raise UnsafeTree(
                    f"With its submodules there are more than {self.most} files in what is to be packaged.",
                    "Choose a smaller source_dir, or raise [sm_git] max_files.",
                )
        return found

    def _inside(self, entry: TreeEntry, urls: dict[str, str], parent: str, at: str, depth: int) -> list[TreeEntry]:
        path = entry.path[len(at) :].lstrip("/")
        if path not in urls:
            what = f"{entry.path!r} is a submodule, but {_FILE} does not say where it comes from."
            raise UnsafeTree(what, "Add it there, or choose a source_dir without it.")
        url = self.check_url(resolve_url(parent, urls[path]))
        tree = self.reader.commit_tree(entry.oid)
        if tree is None:
            why = f"The submodule {entry.path!r} is recorded at {entry.oid}, which {url} does not have"
            raise Wanting(url, entry.oid, "commit", why)
        below = list(walk(self.reader.tree, tree, entry.path, most=self.most))
        self.origins |= {each.oid: url for each in below if each.mode != SUBMODULE}
        return self.expand(below, url, tree, entry.path, depth + 1)

    def _modules(self, url: str, tree: str, at: str) -> dict[str, str]:
        found = find(self.reader.tree, tree, _FILE)
        where = f"{at}/{_FILE}" if at else _FILE
        if found is None or not found[0].startswith("100"):
            return {}
        [(name, info)] = self.reader.infos([found[1]])
        if info is None:
            raise Wanting(url, name, "blob", f"{where} of {url} cannot be read")
        if info.size > _LARGEST:
            raise UnsafeTree(f"{where!r} has {info.size} bytes, more than {_LARGEST}.", "Remove it from the commit.")
        content = b"".join(self.reader.blob(name))
        said = self.objects.run(["config", "-z", "--no-includes", "-f", "-", "--list"], content)
        pairs = (line.partition("\n") for line in said.decode("utf-8", "surrogateescape").split("\0") if line)
        return read_modules((key, value) for key, _, value in pairs)
