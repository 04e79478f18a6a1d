"""How the demo hears of each step: an Airflow plugin whose listener appends a JSON line per change to a file.

It lies in the demo's own ``AIRFLOW_HOME`` only, and does nothing unless the demo names the file.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

VARIABLE = "SM_GIT_DEMO_EVENTS"


def tell(step: str, state: str, error: object = None, **more: Any) -> None:
    """Append a line to the file that the demo reads."""
    if path := os.environ.get(VARIABLE):
        event = {"step": step, "state": state, "time": time.time(), "error": str(error) if error else None, **more}
        with Path(path).open("a") as file:
            file.write(json.dumps(event) + "\n")


def _tell(state: str, task_instance: Any, error: object = None) -> None:
    step = task_instance.task_id.rpartition(".")[2]
    if step == "report" and state != "running" and VARIABLE in os.environ:
        report = task_instance.xcom_pull(task_ids=task_instance.task_id, key="return_value")
        tell(step, state, error, report=report)
    else:
        tell(step, state, error)


class Listener:
    """Tells of every change of a task instance. Names and arguments are Airflow's (``airflow.listeners``)."""

    @hookimpl
    def on_task_instance_running(self, previous_state: Any, task_instance: Any) -> None:
        """A step starts, or goes on after a deferral."""
        _tell("running", task_instance)

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        """A step has succeeded."""
        _tell("success", task_instance)

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        """A step has failed."""
        _tell("failed", task_instance, error)


class ProgressPlugin(AirflowPlugin):
    """The plugin."""

    name = "sm_git_demo_progress"
    listeners = [Listener()]  # noqa: RUF012  Airflow declares it so
