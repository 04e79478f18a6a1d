"""What of a commit's tree goes where in a package, and what must not go in at all."""

from __future__ import annotations

import difflib
import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_sm_git.core.errors import BadParameter, PathNotFound, UnsafeTree
from airflow_sm_git.core.source import check_path

SYMLINK = "120000"
SUBMODULE = "160000"
EXECUTABLE = "100755"
# Code points that HFS+ ignores in names (git's utf8.c, next_hfs_char).
_HFS_IGNORED = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF], None)
_MOST_LINKS = 40  # as Linux: path_resolution(7)


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One line of ``git ls-tree -r``: a blob, symlink or submodule.

    :param path: relative to the repository's root, with bytes that are not UTF-8 as surrogates.
    :param mode: git's mode, such as ``100644``.
    :param oid: full object name.
    """

    path: str
    mode: str
    oid: str


@dataclass(frozen=True, slots=True)
class Selected:
    """A tree entry and where it goes in the archive."""

    path: str
    entry: TreeEntry


@dataclass(frozen=True)
class Selection:
    """What goes into a package.

    :param members: in the tree's order.
    :param entry_point: its path in the archive.
    :param source_dir: normalised, or None.
    """

    members: tuple[Selected, ...]
    entry_point: str
    source_dir: str | None


def select(
    tree: Sequence[TreeEntry], source_dir: str | None, entry_point: str, dependencies: Iterable[str] = ()
) -> Selection:
    """Choose what goes into the package, as the SageMaker SDK lays it out.

    The children of ``source_dir`` at the root, nested paths kept; without it, the entry point alone under its base
    name. ``dependencies`` at the root under their base names.

    :param tree: all entries of the commit.
    :param source_dir: directory in the repository, ``.`` for its root, or None.
    :param entry_point: file: relative to ``source_dir``, else to the repository's root.
    :param dependencies: files or directories, relative to the repository's root.
    :raises BadParameter: a malformed path; two things for one name.
    :raises PathNotFound: the commit lacks one; says what there is.
    :raises UnsafeTree: a submodule among the chosen, or an entry point that is a symlink without source_dir.
    """
    entry_point = check_path("entry_point", entry_point)
    if source_dir:
        source_dir = check_path("source_dir", source_dir)
        members = [Selected(inner, entry) for inner, entry in _below(tree, source_dir)]
        if not members:
            raise _not_found("source_dir", source_dir, tree)
        _check_entry_point(entry_point, source_dir, members)
        inside = entry_point
    else:
        found = next((entry for entry in tree if entry.path == entry_point), None)
        if found is None:
            raise _not_found("entry_point", entry_point, tree)
        if found.mode == SYMLINK:
            raise UnsafeTree(f"entry_point {entry_point!r} is a symlink.", "Name the file it points to.")
        inside = posixpath.basename(entry_point)
        members = [Selected(inside, found)]
    members += _dependencies(tree, dependencies, {member.path.split("/")[0] for member in members})
    for member in members:
        if member.entry.mode == SUBMODULE:
            raise UnsafeTree(
                f"{member.entry.path!r} is a submodule: the commit has only a pointer to another repository.",
                "Choose a source_dir without it, or package its files too: submodules=True.",
            )
    return Selection(tuple(members), inside, source_dir or None)


def _below(tree: Sequence[TreeEntry], directory: str) -> list[tuple[str, TreeEntry]]:
    if directory == ".":
        return [(entry.path, entry) for entry in tree]
    prefix = directory + "/"
    return [(entry.path[len(prefix) :], entry) for entry in tree if entry.path.startswith(prefix)]


def _check_entry_point(entry_point: str, source_dir: str, members: Sequence[Selected]) -> None:
    if any(member.path == entry_point and member.entry.mode != SUBMODULE for member in members):
        return
    prefix = source_dir + "/"
    if entry_point.startswith(prefix) and any(member.path == entry_point[len(prefix) :] for member in members):
        what = f"entry_point {entry_point!r} is not in source_dir {source_dir!r}: it is relative to source_dir."
        raise PathNotFound(what, f"Write {entry_point[len(prefix) :]!r}.")
    names = [member.path for member in members]
    what = f"entry_point {entry_point!r} is not a file in source_dir {source_dir!r} of the commit."
    raise PathNotFound(what, _what_is_there(entry_point, names))


def _dependencies(tree: Sequence[TreeEntry], dependencies: Iterable[str], taken: set[str]) -> list[Selected]:
    chosen: list[Selected] = []
    for dependency in dependencies:
        path = check_path("dependencies", dependency)
        name = posixpath.basename(path)
        if path == ".":
            raise BadParameter("dependencies", dependency, "the whole repository has no base name.", "Use source_dir.")
        if name in taken:
            remedy = "Each lies at the package's root under its base name: rename one, or put both into source_dir."
            raise BadParameter("dependencies", dependency, f"{name!r} is in the package already.", remedy)
        taken.add(name)
        files = [Selected(name, entry) for entry in tree if entry.path == path]
        files += [Selected(f"{name}/{inner}", entry) for inner, entry in _below(tree, path)]
        if not files:
            raise _not_found("dependencies", path, tree)
        chosen += files
    return chosen


def _not_found(parameter: str, path: str, tree: Sequence[TreeEntry]) -> PathNotFound:
    files = {entry.path for entry in tree}
    directories = {parent for file in files for parent in _parents(file)}
    if parameter == "source_dir" and path in files:
        return PathNotFound(f"source_dir {path!r} is a file, not a directory.", "Name the directory it lies in.")
    if parameter == "entry_point" and path in directories:
        below = [inner for inner, _ in _below(tree, path)]
        return PathNotFound(f"entry_point {path!r} is a directory, not a file.", _what_is_there(path, below))
    wanted = {"source_dir": directories, "entry_point": files}.get(parameter, files | directories)
    return PathNotFound(f"The commit has no {parameter} {path!r}.", _what_is_there(path, wanted))


def _what_is_there(path: str, names: Collection[str]) -> str:
    """Name what comes nearest to ``path``, by spelling or by base name, and a few of the rest."""
    ordered = sorted(names)
    near = difflib.get_close_matches(path, ordered, 3, 0.6)
    base = posixpath.basename(path)
    near += [name for name in ordered if posixpath.basename(name) == base and name not in near][:3]
    if near:
        return f"Did you mean {' or '.join(repr(name) for name in near)}?"
    shown = ", ".join(repr(name) for name in ordered[:10])
    more = f" and {len(ordered) - 10} more" if len(ordered) > 10 else ""
    return f"There is {shown}{more}." if ordered else "There is nothing of that kind in it."


def check_layout(paths: Sequence[str], links: Mapping[str, str]) -> None:
    """Refuse what could be unpacked outside of its directory, or differently on another file system.

    :param paths: of all members, in the archive.
    :param links: target of each symlink, by path.
    :raises UnsafeTree: names the first offender.
    """
    members: set[str] = set()
    spellings: dict[str, str] = {}
    for path in paths:
        _check_name(path)
        if path in members:
            raise UnsafeTree(f"{path!r} is in the package twice.", "Rename one.")
        members.add(path)
        for spelling in (*_parents(path), path):
            folded = _folded(spelling)
            other = spellings.setdefault(spelling if folded == spelling else folded, spelling)
            if other != spelling:
                what = f"{other!r} and {spelling!r} are one name where case or Unicode normal form does not count."
                raise UnsafeTree(what, "Rename one.")
    for path in paths:
        for parent in _parents(path):
            if parent in members:
                raise UnsafeTree(f"{path!r} lies below {parent!r}, which is not a directory.", "Rename one.")
    for path, target in links.items():
        _check_link(path, target, links)


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UnsafeTree(f"The file name {path!r} is not UTF-8.", "Rename it.") from error
    if "\0" in path:
        raise UnsafeTree(f"The file name {path!r} holds a NUL.", "Rename it.")
    for part in path.split("/"):
        if part == "" or not {".", ".."}.isdisjoint(part.split("\\")):  # a backslash parts names on Windows
            raise UnsafeTree(f"The path {path!r} may leave the package.", "Remove it from the commit.")
        if any(_is_dot_git(piece) for piece in part.split("\\")):
            raise UnsafeTree(f"The path {path!r} is '.git' in disguise.", "Remove it from the commit.")


def _is_dot_git(name: str) -> bool:
    """Whether some file system takes ``name`` for ``.git`` (git's path.c, is_ntfs_dotgit; utf8.c, is_hfs_dotgit)."""
    plain = unicodedata.normalize("NFKC", name.translate(_HFS_IGNORED)).casefold()
    return re.sub(r"[. ]*(:.*)?$", "", plain, flags=re.DOTALL) in {".git", "git~1"}


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _parents(path: str) -> list[str]:
    return [path[:i] for i, char in enumerate(path) if char == "/"]


def _check_link(path: str, target: str, links: Mapping[str, str]) -> None:
    """Follow a link as a kernel would, inside the archive: going up from the resolved place, not by spelling."""
    refusal = UnsafeTree(
        f"The symlink {path!r} → {target!r} leaves the packaged tree, or never ends.",
        "Choose a source_dir that holds its target, or replace it by a file.",
    )
    at: list[str] = path.split("/")[:-1]
    todo = [path.rpartition("/")[2]]
    followed = 0
    while todo:
        part = todo.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            if not at:
                raise refusal
            at.pop()
            continue
        link = links.get("/".join([*at, part]))
        if link is None:
            at.append(part)
            continue
        followed += 1
        if link.startswith("/") or followed > _MOST_LINKS:
            raise refusal
        todo.extend(reversed(link.split("/")))
