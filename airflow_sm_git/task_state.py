"""What Airflow says of a task instance while its process, or its trigger, is being ended."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future
from types import FrameType
from typing import Any

OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed", "deleted"})
"""States in which no further try will come; ``deleted`` is ours, for a task instance that is not there."""


def question(ti: Any) -> Any:
    """The message that asks for a task instance's state, as ``RuntimeTaskInstance.get_task_states`` sends it."""
    from airflow.sdk.execution_time.comms import GetTaskStates

    return GetTaskStates(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index)


def state_in(answer: Any, ti: Any) -> str | None:
    """The state that an answer tells."""
    name = ti.task_id if ti.map_index is None or ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
    states = answer.task_states.get(ti.run_id, {})
    state = states.get(name)
    return "deleted" if name not in states else None if state is None else str(getattr(state, "value", state))


def ask(ti: Any, seconds: float) -> str | None:
    """Ask, from a signal handler too: in a thread, as whom the signal has interrupted may hold what a question needs.

    :param seconds: how long to wait for the answer.
    :raises TimeoutError: there was none.
    :raises Exception: whatever Airflow raises where it cannot be asked.
    """
    from airflow.sdk.execution_time import task_runner

    if _asks_already():
        raise TimeoutError("the task was just asking Airflow for something else")
    answer: Future[Any] = Future()

    def send() -> None:
        try:
            answer.set_result(task_runner.SUPERVISOR_COMMS.send(question(ti)))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=send, daemon=True).start()
    return state_in(answer.result(seconds), ti)


def _asks_already() -> bool:
    """Whether the interrupted code waits for an answer itself: Airflow 3.0 would hand it ours."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "airflow.sdk.execution_time.comms":
            return True
        frame = frame.f_back
    return False
