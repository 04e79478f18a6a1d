"""Which of a commit's files go into a package: found where they lie, without what is not to be exported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from airflow_sm_git.core.errors import PathNotFound
from airflow_sm_git.core.git_tree import DIRECTORY, Reader, TooMany, find, walk
from airflow_sm_git.core.limits import Limits
from airflow_sm_git.core.source import check_path
from airflow_sm_git.core.tree import Selection, TreeEntry, select

_MOST_SHOWN = 20_000


@dataclass(frozen=True)
class Content:
    """What of a commit to package; see :func:`airflow_sm_git.core.tree.select`."""

    source_dir: str | None
    entry_point: str
    dependencies: tuple[str, ...] = ()
    submodules: bool = False


Expand = Callable[[list[TreeEntry]], list[TreeEntry]]


def choose(
    read: Reader, root: str, content: Content, limits: Limits, expand: Expand = list
) -> tuple[Selection, list[str]]:
    """What of a commit goes into the package, looking only where it lies; see :func:`airflow_sm_git.core.tree.select`.

    :param read: gives tree objects.
    :param root: name of the commit's tree.
    :param expand: puts the files of submodules into their places.
    :return: what was chosen, and which directories it was taken from.
    """
    given = (content.source_dir, content.entry_point, content.dependencies)
    wanted = [check_path("source_dir", content.source_dir)] if content.source_dir else []
    wanted = wanted or [check_path("entry_point", content.entry_point)]
    wanted += [check_path("dependencies", path) for path in content.dependencies]
    entries: list[TreeEntry] = []
    directories: list[str] = []
    try:
        for path in _outermost(wanted):
            found = find(read, root, path)
            if found and found[0] == DIRECTORY:
                directories.append(path)
                entries += walk(read, found[1], "" if path == "." else path, most=limits.max_files - len(entries))
            elif found:
                entries.append(TreeEntry(path, *found))
        entries = expand(entries)
        return select(entries, *given), directories
    except PathNotFound:
        if "." in wanted:
            raise
    # Only what there is in the whole commit makes a helpful error; of a large one, a part will do.
    around: list[TreeEntry] = []
    with suppress(TooMany):
        around.extend(walk(read, root, most=_MOST_SHOWN))
    return select([*around, *entries], *given), directories


def _outermost(paths: Iterable[str]) -> list[str]:
    """The paths that do not lie below another one of them, each once."""
    unique = list(dict.fromkeys(paths))
    return [p for p in unique if "." not in unique or p == "." if not any(p.startswith(f"{o}/") for o in unique)]


def without_ignored(
    chosen: Selection, directories: Sequence[str], ignored: Callable[[list[str]], set[str]]
) -> Selection:
    """The selection without what lies in the chosen directories and is not to be exported.

    :param ignored: gives those of some paths that are not.
    """
    above = {m.entry.path: _on_the_way(m.entry.path, directories) for m in chosen.members}
    asked = {path for paths in above.values() for path in paths}
    gone = ignored(sorted(asked)) if asked else set()
    if not gone:
        return chosen
    members = tuple(m for m in chosen.members if not gone.intersection(above[m.entry.path]))
    if all(member.path != chosen.entry_point for member in members):
        what = f"entry_point {chosen.entry_point!r} is marked export-ignore in the commit's .gitattributes."
        raise PathNotFound(what, "Take it out of there, or name another script.")
    return replace(chosen, members=members)


def _on_the_way(path: str, directories: Sequence[str]) -> list[str]:
    """A path and what lies between it and the directory that it was chosen with; none, if it was named itself."""
    for directory in directories:
        prefix = "" if directory == "." else f"{directory}/"
        if path.startswith(prefix):
            parts = path[len(prefix) :].split("/")
            return [path, *(f"{prefix}{'/'.join(parts[:i])}/" for i in range(1, len(parts)))]
    return []
