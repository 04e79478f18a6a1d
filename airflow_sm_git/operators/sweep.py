"""Sweep: what runs have left in a region is listed, and what of it has expired is deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_sm_git.core import errors
from airflow_sm_git.operators.base import AwsOperator
from airflow_sm_git.operators.values import as_bool, given, seconds

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_sm_git.core.sweep_record import Sweep

_OVER = ["success", "failed"]  # states of a run that goes no further by itself


class SweepOperator(AwsOperator):
    """List the endpoints, configurations, models and running training jobs that carry this Airflow's namespace, and
    delete (stop, if it is a job) those whose lease has ended. What has no lease is standing and stays.

    A running job is kept as long as its run goes on, and stopped when the run has ended, or is gone from a DAG that has
    others, whatever its lease; so a namespace must not be shared by two Airflows (setting ``namespace``). What of it
    cannot be done fails the task at its end; the rest is done all the same.

    :param delete: whether to delete; without it the task only lists.
    :param older_than: what has a lease and is older than this counts as expired too: a timedelta, seconds, or a text
        such as ``"3d"``, ``"12h"``, ``"90m"``.
    :param s3_uri_prefix: where a sweep writes down when it was, for the warning of runs; None for the setting.
    :param check_interval: how often to look at an endpoint that is busy; seconds or timedelta.
    :param wait_timeout: how long to wait in all for endpoints that cannot be deleted yet; seconds or timedelta.
    :return: a `Sweep` record (`airflow_sm_git.core.sweep_record`); also when the task then fails.
    """

    template_fields: Sequence[str] = (
        "delete",
        "older_than",
        "s3_uri_prefix",
        "wait_timeout",
        *AwsOperator.template_fields,
    )

    def __init__(
        self,
        *,
        delete: bool | str = False,
        older_than: float | timedelta | str | None = None,
        s3_uri_prefix: str | None = None,
        check_interval: float | timedelta = 15,
        wait_timeout: float | timedelta = 600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.delete = delete
        self.older_than = older_than
        self.s3_uri_prefix = s3_uri_prefix
        self.check_interval = check_interval
        self.wait_timeout = wait_timeout

    def run(self, context: Context) -> Sweep:
        """List, delete, write down when."""
        from airflow_sm_git import settings
        from airflow_sm_git.clients.lease_sweep import sweep
        from airflow_sm_git.core.sweep_record import render

        record = sweep(
            self.aws().sagemaker(),
            settings.get("namespace"),
            delete=as_bool("delete", self.delete),
            older_than=_age(self.older_than),
            run_state=_run_state(context["ti"], self.log),
            wait=seconds("wait_timeout", self.wait_timeout),
            check_interval=seconds("check_interval", self.check_interval),
        )
        self.log.info("%s", "\n".join(render(record)))
        if record["failed"]:
            context["ti"].xcom_push(key="return_value", value=record)
            raise errors.TeardownError(
                f"Not everything could be swept: {' '.join(record['failed'])}", "The next sweep tries again."
            )
        self._mark(record)
        return record

    def _mark(self, record: Sweep) -> None:
        from airflow_sm_git.clients.sweep_marker import try_to_mark

        if record["delete"]:
            try:
                try_to_mark(self.aws().store(given(self.s3_uri_prefix)), record, self.log)
            except errors.SmGitError as error:  # where the marker goes cannot be told
                self.log.warning("This sweep leaves no mark of when it was: %s", error)


def _age(value: Any) -> timedelta | None:
    from airflow_sm_git.core.lease import duration

    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()  # strictly: a mistake here would delete too much
    return None if text in ("", "None") else duration("older_than", text)


def _run_state(ti: Any, log: Any) -> Callable[[str, str], str]:
    """What asks Airflow for a run. By counts alone: asking for the state of a run that is gone is an error.

    Where Airflow does not answer, nothing is said of the run, and the sweep goes on.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError

    from airflow_sm_git.core.lease import ALIVE, ENDED, GONE

    said = False

    def ask(dag_id: str, run_id: str) -> str:
        nonlocal said
        try:
            if ti.get_dr_count(dag_id=dag_id, run_ids=[run_id]):
                return ENDED if ti.get_dr_count(dag_id=dag_id, run_ids=[run_id], states=_OVER) else ALIVE
            # A DAG without any run may be another Airflow's.
            return GONE if ti.get_dr_count(dag_id=dag_id) else ""
        except AirflowRuntimeError as error:
            if not said:
                log.warning("Airflow does not tell of runs, so jobs are judged by their leases alone: %s", error)
            said = True
            return ""

    return ask
