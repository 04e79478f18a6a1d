"""A training job that nobody will wait for any more is stopped; one that a further try will come for goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_sm_git.core import errors

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_sm_git.operators.train import TrainOperator

T = TypeVar("T")
INSIST_SECONDS = 60.0  # for which a job that must be stopped is tried to be
ANSWER_SECONDS = 2.0  # of the five that Airflow leaves a process between SIGTERM and SIGKILL


def stop_if_killed_for_good(operator: TrainOperator, ti: Any) -> None:
    """Stop the job, unless the task is tried again: Airflow ends a task's process also when it has lost touch with its
    own API, when another try has taken over, when the task is cleared, and when the machine is to go down.

    :param ti: the task instance; None where Airflow was never asked to run it.
    """
    from airflow_sm_git import task_state
    from airflow_sm_git.compat import AirflowTaskTimeout

    if ti is None or not _may_have_a_job(operator, ti):
        return
    name, patience = _name(operator), operator.insist_seconds
    if not isinstance(sys.exc_info()[1], AirflowTaskTimeout):
        patience = min(patience, ANSWER_SECONDS)
        try:
            state = task_state.ask(ti, ANSWER_SECONDS)
        except Exception as error:  # whatever it is: without an answer nothing is stopped
            operator.log.warning("Airflow does not say what became of the task, so %s runs on: %r", name, error)
            return
        if state not in task_state.OVER:
            operator.log.info("The task's process is ended, the task is %s: training job %s runs on", state, name)
            return
    operator.log.info("The task was killed: stopping training job %s", name)
    _stop_or_tell(operator, ti, "killed", patience)


@contextmanager
def never_abandoned(operator: TrainOperator, context: Context) -> Iterator[None]:
    """Stop the job if the task fails while it runs, and no further try will come for it."""
    try:
        yield
    except errors.TrainingError:  # it has ended
        raise
    except Exception as error:
        if operator.cancel_on_kill and not _is_tried_again(error, operator, context):
            _stop_what_runs(operator, context)
        raise


def _is_tried_again(error: Exception, operator: TrainOperator, context: Context) -> bool:
    ti = context["ti"]
    if not getattr(error, "retryable", True) or ti.try_number > ti.max_tries:
        return False
    policy = getattr(operator, "retry_policy", None)  # Airflow 3.3
    if policy is None:
        return True
    try:
        decision = policy.evaluate(error, ti.try_number, ti.max_tries, context)
    except Exception:  # Airflow then does without the policy, and says so
        return True
    return bool(decision.action.value != "fail")


def _stop_what_runs(operator: TrainOperator, context: Context) -> None:
    ti = context["ti"]
    if _may_have_a_job(operator, ti) and (stopped := _stop_or_tell(operator, ti, "failed", operator.insist_seconds)):
        operator.log.warning("Nobody will wait for training job %s any more: stopped it", stopped[0])


def _stop_or_tell(operator: TrainOperator, ti: Any, reason: str, patience: float) -> list[str]:
    """The jobs that ran and were stopped; what is wrong with the task is the error to be raised, not what is here."""
    try:
        return insist_on_stop(operator, lambda: _stop(operator, ti, reason), patience)
    except Exception as error:
        _tell(operator, "so stop it in the console, or by airflow-sm-git sweep", error)
        return []


def insist_on_stop(operator: TrainOperator, stop: Callable[[], T], patience: float) -> T:
    """Stop what must not run on, again and again while time may mend what that fails of.

    :param patience: seconds.
    :raises Exception: the last one.
    """
    from airflow_sm_git.clients.jobs import insist

    return insist(stop, partial(_tell, operator), patience)


def _tell(operator: TrainOperator, then: str, error: Exception) -> None:
    operator.log.error("Training job %s may still run, %s: %s", _name(operator), then, error)


def _name(operator: TrainOperator) -> str:
    return operator.job_name or "of an earlier try"


def _may_have_a_job(operator: TrainOperator, ti: Any) -> bool:
    return bool(operator.job_name) or operator.submitting or ti.try_number > 1


def _stop(operator: TrainOperator, ti: Any, reason: str) -> list[str]:
    """Stop this try's job, or the one that an earlier try has left and this one has not come to; those that ran."""
    from airflow_sm_git.clients.jobs import find_attempts, stop_job
    from airflow_sm_git.operators.base import key_of

    client, name = operator.aws().sagemaker(), operator.job_name
    if name and client.describe("TrainingJob", name) is None:  # it was never submitted: an earlier try's may run
        name = None
    names = [name] if name else [attempt.name for attempt in find_attempts(client, key_of(ti))]
    return [each for each in names if stop_job(client, each, reason)]
