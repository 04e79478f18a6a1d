"""Training jobs of one task instance: find the attempts, stop them, and say why one failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from airflow_sm_git.clients.job_log import quoted
from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core import errors
from airflow_sm_git.core.attempts import Attempt
from airflow_sm_git.core.console import console_url
from airflow_sm_git.core.failures import exit_code, training_failure, was_spot
from airflow_sm_git.core.names import TAG_PREFIX, TaskKey, attempt_of, read_tags
from airflow_sm_git.core.status import Phase

STOPPED_BY = "stopped-by"
TELLING = 12  # characters of a log's last line; a shorter one may be in any reason
T = TypeVar("T")
_log = logging.getLogger(__name__)


def find_attempts(client: SageMakerClient, key: TaskKey, known: str | None = None) -> list[Attempt]:
    """The newest job that earlier tries of a task instance made, with what decides about it; empty if there is none.

    Older attempts decide nothing, so they are not described.

    :param known: a job that exists though the listing, which may be late, need not have it.
    """
    numbered = {
        name: attempt_of(name, key) for name in {*client.names("TrainingJob", key.hash), *filter(None, [known])}
    }
    found = {name: number for name, number in numbered.items() if number is not None}
    if not found:
        return []
    name = max(found, key=lambda each: found[each])
    job = client.call("DescribeTrainingJob", TrainingJobName=name)
    tags = read_tags(client.tags(job["TrainingJobArn"]))
    request, _, generation = tags.get("request", "").partition("/")
    return [
        Attempt(
            number=found[name],
            name=name,
            status=job["TrainingJobStatus"],
            request=request,
            generation=int(generation) if generation.isdigit() else 0,
            stopped_by_us=STOPPED_BY in tags,
            timed_out=job.get("SecondaryStatus") in ("MaxRuntimeExceeded", "MaxWaitTimeExceeded"),
        )
    ]


def stop_job(client: SageMakerClient, name: str, reason: str) -> bool:
    """Stop a job, marked as stopped by us; one that has ended already is left as it is.

    :param reason: a word that goes into its tags.
    :return: whether it was running.
    """
    job = client.describe("TrainingJob", name)
    if job is None or job["TrainingJobStatus"] != "InProgress":
        return False
    tag = {"Key": f"{TAG_PREFIX}{STOPPED_BY}", "Value": reason}
    try:
        client.call("AddTags", ResourceArn=job["TrainingJobArn"], Tags=[tag])
    except errors.AwsError as error:
        _log.warning("Training job %s is stopped without a mark that it was us: %s", name, error)
    try:
        client.call("StopTrainingJob", TrainingJobName=name)
    except errors.AwsError as error:
        ended = client.describe("TrainingJob", name)
        if ended is None or ended["TrainingJobStatus"] == "InProgress":
            raise error
    return True


def insist(act: Callable[[], T], tell: Callable[[str, Exception], object], seconds: float) -> T:
    """Do what must be done, such as to stop a job, again and again while time may mend what it fails of.

    :param tell: is told what comes next, and the error.
    :param seconds: how long.
    :raises Exception: the last one.
    """
    deadline, pause = time.monotonic() + seconds, 1.0
    while True:
        try:
            return act()
        except Exception as error:  # whatever it is: it must be done
            if not getattr(error, "retryable", True) or time.monotonic() + pause >= deadline:
                raise
            tell(f"tried again in {pause:g} s", error)
        time.sleep(pause)
        pause *= 2


def _is_told(lines: list[str], reason: str) -> bool:
    """Whether a failure reason has the end of a log already."""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return len(last) >= TELLING and last in reason


def failure(client: SageMakerClient, job: dict[str, Any], result: Phase, lines: list[str]) -> errors.TrainingError:
    """The error for a job that did not complete.

    :param client: is asked who stopped the job.
    :param job: DescribeTrainingJob's answer.
    :param result: what its status means.
    :param lines: its log, of which the error quotes the end.
    """
    name, reason = job["TrainingJobName"], job.get("FailureReason", "")
    tail = "" if _is_told(lines, reason) else quoted(lines)
    tail += f"\nIts page: {console_url(client.region, 'jobs', name)}"
    if result is Phase.FAILED:
        kind, remedy = training_failure(job)
        code = exit_code(reason)
        how = "" if code is None else f" with exit code {code}"
        return kind(f"Training job {name!r} failed{how}: {reason or 'no reason was given.'}{tail}", remedy)
    if was_spot(job):
        remedy = "Try again; checkpoint_s3_uri lets the script go on where it was, max_wait gives it more time."
        return errors.SpotInterrupted(
            f"Training job {name!r} lost its spot capacity and did not get it back in time.{tail}", remedy
        )
    if job.get("SecondaryStatus") in ("MaxRuntimeExceeded", "MaxWaitTimeExceeded"):
        return errors.TrainingTimedOut(
            f"Training job {name!r} reached its own limit ({job['SecondaryStatus']}).{tail}",
            "Raise max_run or max_wait.",
        )
    error = errors.TrainingStopped(
        f"Training job {name!r} was stopped. {reason}{tail}", "Clear the task to train again."
    )
    error.retryable = STOPPED_BY in read_tags(client.tags(job["TrainingJobArn"]))  # not by somebody who meant it to end
    return error
