"""Exactly one billable job: what a try of a task does with the jobs that earlier tries left.

Pure: the jobs are observed and the decision is carried out elsewhere (`operators/train.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from airflow_sm_git.core.status import TRAINING_JOB, Phase, phase


@dataclass(frozen=True)
class Attempt:
    """A job that an earlier try of the same task instance submitted.

    :param number: its attempt, from 1 up.
    :param status: ``TrainingJobStatus``.
    :param request: hash of the request it was made with.
    :param generation: a number that changes when the task is cleared, as it was when the job was made.
    :param stopped_by_us: whether this package stopped it.
    :param timed_out: whether SageMaker stopped it because its own time limit was reached.
    """

    number: int
    name: str
    status: str
    request: str
    generation: int
    stopped_by_us: bool = False
    timed_out: bool = False


class Action(Enum):
    """What to do."""

    SUBMIT = "submit a new attempt"
    ATTACH = "wait for the running job"
    TAKE = "take the finished job"
    REPLACE = "stop the running job, wait, then submit a new attempt"
    REFUSE = "fail without retry: somebody else stopped the job"


@dataclass(frozen=True)
class Decision:
    """An action, and the attempt it is about: the one to submit, or the one that exists."""

    action: Action
    number: int


def decide(attempts: Sequence[Attempt], *, request: str, generation: int) -> Decision:
    """Decide by the newest attempt.

    :param attempts: all earlier ones, in any order.
    :param request: hash of the request that this try would send.
    :param generation: that number now.
    """
    if not attempts:
        return Decision(Action.SUBMIT, 1)
    last = max(attempts, key=lambda attempt: attempt.number)
    return Decision(*_decide(last, request, generation))


def _decide(last: Attempt, request: str, generation: int) -> tuple[Action, int]:
    again = (Action.SUBMIT, last.number + 1)
    match phase(TRAINING_JOB, last.status):
        case Phase.RUNNING:
            attach = last.request == request and last.status == "InProgress"
            return (Action.ATTACH if attach else Action.REPLACE), last.number
        case Phase.SUCCEEDED:
            same = last.request == request and last.generation == generation
            return (Action.TAKE, last.number) if same else again
        case Phase.STOPPED if not last.stopped_by_us and not last.timed_out and last.generation == generation:
            return Action.REFUSE, last.number
    return again
