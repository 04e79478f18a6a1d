"""Submit a training job exactly once, whatever earlier tries of the task have left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_git.clients.jobs import find_attempts, stop_job
from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core import errors
from airflow_sm_git.core.attempts import Action, decide
from airflow_sm_git.core.lease import LEASE
from airflow_sm_git.core.names import TaskKey, job_name, make_tags, short_hash
from airflow_sm_git.core.training import TrainSpec, request_identity, training_request

TRIES = 5


@dataclass(frozen=True)
class Order:
    """What is to be trained, and for whom.

    :param generation: a number that clearing the task changes and trying again does not: Airflow's ``max_tries``. Where
        `retries` was lowered meanwhile by as many as the task had tries, the clear does not show; a second one does.
    :param prefix: the readable part of the job's name; None for the DAG's id.
    :param tags: values of our own tags, by key without the prefix.
    :param user_tags: the user's tags.
    """

    spec: TrainSpec
    key: TaskKey
    generation: int
    prefix: str | None
    tags: Mapping[str, str | None]
    user_tags: Mapping[str, str]


def submit(
    client: SageMakerClient,
    order: Order,
    *,
    wait: Callable[[str], bool],
    log: Callable[..., None],
    tell: Callable[[str], object] = lambda name: None,
) -> tuple[str, bool]:
    """Submit, attach to, take, or replace.

    :param wait: waits until the job of a name has ended; whether it has.
    :param log: takes a format and its arguments.
    :param tell: is told a job's name right before it is submitted: from then on it may be there, whatever comes back.
    :return: the name of the job to wait for, and whether an earlier try had submitted it.
    :raises TrainingStopped: somebody else stopped the job.
    :raises TrainingTimedOut: the job to be replaced did not stop in time.
    :raises ServiceFault: others were faster, time and again.
    """
    draft = draft_request(client, order.spec)
    identity = short_hash(request_identity(draft, order.spec.package))
    known = None
    for _ in range(TRIES):
        attempts = find_attempts(client, order.key, known)
        decision = decide(attempts, request=identity, generation=order.generation)
        log("Attempt %d: %s", decision.number, decision.action.value)
        if decision.action is Action.SUBMIT:
            name = job_name(order.key, decision.number, order.prefix)
            tell(name)
            try:
                _create(client, order, name, identity)
            except errors.NameInUse:
                known = name  # another try was faster, or the listing was late
                continue
            log("Submitted training job %s", name)
            return name, False
        name = attempts[0].name
        if decision.action in (Action.ATTACH, Action.TAKE):
            try:
                _adopt(client, name, _claims(order, identity, decision.action, attempts[0].generation))
            except errors.AwsError as error:
                log("Training job %s is not marked as the one that this try waits for: %s", name, error)
            return name, True
        if decision.action is Action.REFUSE:
            remedy = "Clear the task to train again."
            raise errors.TrainingStopped(f"Training job {name!r} was stopped by somebody else.", remedy)
        stop_job(client, name, "replaced")
        if not wait(name):
            raise errors.TrainingTimedOut(
                f"Training job {name!r}, which is to be replaced, has not stopped.", "Try again."
            )
    raise errors.ServiceFault(f"Others changed the task's training jobs {TRIES} times meanwhile.", "Try again.")


def draft_request(client: SageMakerClient, spec: TrainSpec) -> dict[str, Any]:
    """What is asked for, whatever the job will be called and be tagged with.

    :raises BadParameter: SageMaker has no form for it.
    """
    request = training_request(spec, job_name="draft", tags=[])
    client.validate("CreateTrainingJob", request)
    return request


def _claims(order: Order, identity: str, action: Action, generation: int) -> list[dict[str, str]]:
    """Tags by which a job counts for the task as it has been cleared since, so that a later try takes it when it has
    ended; and by which one that runs has the lease of who waits for it now."""
    cleared = generation != order.generation
    return make_tags(
        {
            "request": f"{identity}/{order.generation}" if cleared else None,
            LEASE: order.tags.get(LEASE) if action is Action.ATTACH else None,
        }
    )


def _adopt(client: SageMakerClient, name: str, claims: list[dict[str, str]]) -> None:
    if claims:
        job = client.call("DescribeTrainingJob", TrainingJobName=name)
        client.call("AddTags", ResourceArn=job["TrainingJobArn"], Tags=claims)


def _create(client: SageMakerClient, order: Order, name: str, identity: str) -> None:
    tags = make_tags({**order.tags, "request": f"{identity}/{order.generation}"}, order.user_tags)
    request = training_request(order.spec, job_name=name, tags=tags)
    client.validate("CreateTrainingJob", request)
    try:
        client.call("CreateTrainingJob", **request)
    except errors.AwsError as error:
        if empty := _empty_channel(error, request):
            raise empty from error
        raise


def _empty_channel(error: errors.AwsError, request: Mapping[str, Any]) -> errors.BadParameter | None:
    """A refusal for want of data, under the name by which the user knows the channel; AWS tells the URI alone."""
    for channel in request.get("InputDataConfig", ()):
        uri = channel["DataSource"].get("S3DataSource", {}).get("S3Uri")
        if uri and f'No S3 objects found under S3 URL "{uri}"' in error.what:
            remedy = "Put the data there, or correct the URI."
            return errors.BadParameter(f"inputs[{channel['ChannelName']!r}]", uri, "there is no object", remedy)
    return None
