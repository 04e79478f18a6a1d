"""Ranges of commits, as users write them: ``A..B``.

Pure: nothing here talks to a remote.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.source import check_ref


@dataclass(frozen=True)
class CommitRange:
    """Commits along first parents.

    :param since: ref of the commit before the first one; None for all.
    :param ref: ref of the last one; None is the remote's HEAD.
    """

    since: str | None
    ref: str | None


def parse_range(text: str, parameter: str = "commits") -> CommitRange:
    """Read ``A..B``, ``A..`` (up to the default branch), or a ref alone.

    :param parameter: the name to blame in errors.
    :raises BadParameter: anything else that git calls a range (gitrevisions(7)), or a malformed ref.
    """
    if not isinstance(text, str):
        raise BadParameter(parameter, text, "must be a string.", "Write 'A..B', two refs.")
    start, dots, end = text.partition("..")
    if end.startswith("."):
        remedy = f"Write {start or 'A'}..{end.lstrip('.') or 'B'}: those that come after the first, up to the second."
        raise BadParameter(parameter, text, "three dots mean the commits of one side or the other.", remedy)
    if text.startswith("^"):
        raise BadParameter(parameter, text, "'^' is not read here.", "Write 'A..B' to leave out A and what is before.")
    if not dots:
        return CommitRange(None, check_ref(text, parameter))
    if not start:
        remedy = f"Write 'A..{end or 'B'}', or the ref alone and a limit."
        raise BadParameter(parameter, text, "has no start.", remedy)
    return CommitRange(check_ref(start, parameter), check_ref(end, parameter) if end else None)
