"""Which tasks of a DAG belong together, and how they ended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

SUCCEEDED = frozenset({"success", "skipped"})


def is_kind(task: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether a task, mapped or not, is of an operator class, or of one of some."""
    cls = getattr(task, "operator_class", type(task))
    return isinstance(cls, type) and issubclass(cls, kind)


def reached(task: BaseOperator, end: type, *, upstream: bool) -> list[Any]:
    """A task's relatives, by id, as far as the next ones of an operator class, these included."""
    found: dict[str, Any] = {}
    ahead: list[Any] = [task]
    while ahead:
        one = ahead.pop()
        for near in one.upstream_list if upstream else one.downstream_list:
            if near.task_id not in found:
                found[near.task_id] = near
                ahead += [] if is_kind(near, end) else [near]
    return [found[task_id] for task_id in sorted(found)]


def between(teardown: BaseOperator) -> list[Any]:
    """The work between a teardown and its setups, in the order of their ids."""
    setups = {task.task_id for task in teardown.upstream_list if getattr(task, "is_setup", False)}
    inner = set()
    for task in teardown.upstream_list:
        if task.task_id in setups:
            inner |= set(task.get_flat_relative_ids(upstream=False))
    upstream = teardown.get_flat_relatives(upstream=True)
    work = [task for task in upstream if not setups or task.task_id in inner]
    return sorted((task for task in work if task.task_id not in setups), key=lambda each: each.task_id)


def states(
    context: Context, tasks: list[Any], map_index: int | None = None, *, removed: bool = False
) -> dict[tuple[str, int], str | None]:
    """How the task instances of some tasks stand in this run, by task id and map index.

    :param map_index: only this one; None or -1 for all.
    :param removed: those of a mapping that has shrunk, too.
    """
    ti = context["ti"]
    ids = [task.task_id for task in tasks]
    if not ids:
        return {}
    found: dict[tuple[str, int], str | None] = {}
    for asked in [[each] for each in ids] if _ambiguous(ids) else [ids]:
        answer = ti.get_task_states(dag_id=ti.dag_id, task_ids=asked, run_ids=[ti.run_id])
        named = {_split(name, asked): _text(state) for name, state in answer.get(ti.run_id, {}).items()}
        found |= {key: state for key, state in named.items() if removed or state != "removed"}
    if map_index is None or map_index < 0:
        return found
    return {key: state for key, state in found.items() if key[1] == map_index}


def _ambiguous(ids: list[str]) -> bool:
    """Whether one task has the name that Airflow gives to a mapped instance of another."""
    return any(re.fullmatch(rf"{re.escape(one)}_\d+", other) for one in ids for other in ids)


def _split(name: str, ids: list[str]) -> tuple[str, int]:
    """Airflow names a mapped instance ``<task id>_<map index>``."""
    if name in ids:
        return name, -1
    task_id, _, index = name.rpartition("_")
    return task_id, int(index)


def _text(state: Any) -> str | None:
    return None if state is None else str(getattr(state, "value", state))
