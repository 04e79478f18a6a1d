"""Report: the run's record, and the run's colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_git.core.errors import SmGitError
from airflow_sm_git.core.records import SCHEMA
from airflow_sm_git.operators.base import SmGitOperator
from airflow_sm_git.operators.deploy import DeployOperator
from airflow_sm_git.operators.git_checkout import GitCheckoutOperator
from airflow_sm_git.operators.package_source import PackageSourceOperator
from airflow_sm_git.operators.predict import PredictOperator
from airflow_sm_git.operators.scope import SUCCEEDED, is_kind, states
from airflow_sm_git.operators.teardown import TeardownOperator
from airflow_sm_git.operators.train import TrainOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

# Under which XCom key a task leaves its record, by its state; one that never ran has left none.
_KEYS = {"success": "return_value", "failed": "return_value", "skipped": "kept"}
_SECTIONS: tuple[tuple[str, type], ...] = (
    ("checkout", GitCheckoutOperator),
    ("package", PackageSourceOperator),
    ("training_job", TrainOperator),
    ("endpoint", DeployOperator),
    ("prediction", PredictOperator),
    ("teardown", TeardownOperator),
)


class ReportOperator(SmGitOperator):
    """Put together what a run did, and fail if anything before failed.

    It is the run's leaf: a teardown that may fail the run is a leaf too, and would end a run whose predict failed as a
    success. It comes after the teardown, so that the record tells what was deleted and what is kept. In a mapped
    chain it reports every index. To Airflow it is a teardown itself: when a user marks a run failed, Airflow skips all
    that has not run but teardowns, and a run whose report was skipped would end as a success.

    :return: ``{"schema": 1, "dag_id": …, "run_id": …, "succeeded": bool, "tasks": {task: state}, "indexes": {map
        index: {"checkout": …, "package": …, "training_job": …, "endpoint": …, "prediction": …, "teardown": …}}}``;
        also when the task then fails.
    """

    template_fields: Sequence[str] = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.as_teardown(on_failure_fail_dagrun=True)

    def run(self, context: Context) -> dict[str, Any]:
        """Collect, print, judge."""
        from airflow_sm_git.core.report import kept_sentences, render

        ti = context["ti"]
        upstream = sorted(self.get_flat_relatives(upstream=True), key=lambda task: task.task_id)
        found = states(context, upstream, None)
        indexes = sorted({index for _, index in found})
        bad = {key for key, state in found.items() if state not in SUCCEEDED} | _cut_off(upstream, found)
        report = {
            "schema": SCHEMA,
            "dag_id": ti.dag_id,
            "run_id": ti.run_id,
            "succeeded": not bad,
            "tasks": {_label(*key): state for key, state in sorted(found.items())},
            "indexes": {str(index): self._records(context, upstream, found, index) for index in indexes},
        }
        ti.xcom_push(key="return_value", value=report)
        self.log.info("%s", render(report))
        if not report["succeeded"]:
            raise SmGitError(self._why(context, {key: found[key] for key in bad}), "\n".join(kept_sentences(report)))
        return report

    def _why(self, context: Context, found: dict[tuple[str, int], str | None]) -> str:
        """The tasks that went wrong first, with what each said."""
        bad = dict(sorted(found.items()))
        first = {key: state for key, state in bad.items() if state != "upstream_failed"} or bad
        lines = [f"The run failed: {', '.join(f'{_label(*key)} ({state})' for key, state in first.items())}."]
        for (task_id, index), state in first.items():
            said = (
                context["ti"].xcom_pull(task_ids=task_id, map_indexes=index, key="error") if state == "failed" else None
            )
            lines += [f"{_label(task_id, index)}: {said}"] if said else []
        return "\n".join(lines)

    def _records(
        self, context: Context, upstream: list[Any], found: dict[tuple[str, int], str | None], index: int
    ) -> dict[str, Any]:
        records: dict[str, Any] = {}
        for section, kind in _SECTIONS:
            for task in upstream:
                state = found.get((task.task_id, index))
                key = _KEYS.get(state or "") if is_kind(task, kind) else None
                if key is None or (key == "kept" and kind is not TeardownOperator):
                    continue
                value = context["ti"].xcom_pull(task_ids=task.task_id, map_indexes=index, key=key)
                if value is not None:
                    name = section if section not in records else task.task_id.rpartition(".")[2]
                    records[name] = value
        return records


def _cut_off(tasks: list[Any], found: dict[tuple[str, int], str | None]) -> set[tuple[str, int]]:
    """Steps that were skipped though all before them are steps that succeeded: no task decides so, only a user who
    marks the run failed."""
    steps = tuple(kind for _, kind in _SECTIONS if kind is not TeardownOperator)
    before = {task.task_id: task.upstream_list for task in tasks if is_kind(task, steps)}
    return {
        (task_id, index)
        for (task_id, index), state in found.items()
        if state == "skipped"
        and before.get(task_id)
        and all(
            is_kind(one, steps) and found.get((one.task_id, index), found.get((one.task_id, -1))) == "success"
            for one in before[task_id]
        )
    }


def _label(task_id: str, index: int) -> str:
    return task_id if index < 0 else f"{task_id}[{index}]"
