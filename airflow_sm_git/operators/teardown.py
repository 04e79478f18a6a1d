"""Teardown: what the tasks between a setup and this made is deleted, or kept by policy and said so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_sm_git.core import errors
from airflow_sm_git.core.records import SCHEMA, Teardown
from airflow_sm_git.operators.base import AwsOperator, final_errors, is_deferrable, iso, task_key
from airflow_sm_git.operators.deploy import DeployOperator
from airflow_sm_git.operators.scope import SUCCEEDED, between, is_kind, states
from airflow_sm_git.operators.train import TrainOperator
from airflow_sm_git.operators.values import seconds

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_sm_git.clients.owned import Owned
    from airflow_sm_git.core.names import TaskKey

POLICIES = ("on_success", "always", "never")
GOING = 60.0
"""Seconds for which a deletion is seen off though time is up, and one of several busy endpoints is waited for."""
LINGER = 15.0
"""Seconds for which the process of a task that somebody marks may go on: Airflow tells it at the next heartbeat (5 s by
default, ``[workers] min_heartbeat_interval``), and kills it 5 s later."""


class TeardownOperator(AwsOperator):
    """Delete the endpoints, configurations and models of this run, and stop its training jobs.

    Use it as ``teardown.as_teardown(setups=checkout, on_failure_fail_dagrun=True)``: the setup is the checkout, never
    the deploy, because Airflow does not run a teardown whose setup failed. Its scope is the work between the setup
    and itself, at the same map index. What is to be deleted is found by name and tag, not by XCom; what is gone
    already is success. Where a deploy or a training was cut off, it first gives its process the time to end.

    :param policy: ``"on_success"`` deletes when all work has succeeded, ``"always"`` and ``"never"`` do as they say.
        Keeping means that the task skips itself, after it has said what is kept, until when, and how to remove it.
    :param check_interval: how often to look at what is busy.
    :param wait_timeout: how long to wait in all for endpoints that cannot be deleted yet.
    :param s3_uri_prefix: where sweeps leave their mark; None for the setting. The task warns when it finds none of the
        last week.
    :param deferrable: wait in the triggerer; None for Airflow's ``[operators] default_deferrable``.
    :return: a `Teardown` record; when something is kept, it is under the XCom key ``kept``.
    """

    template_fields: Sequence[str] = ("policy", "s3_uri_prefix", *AwsOperator.template_fields)

    def __init__(
        self,
        *,
        policy: str = "on_success",
        check_interval: float | timedelta = 15,
        wait_timeout: float | timedelta = 3600,
        s3_uri_prefix: str | None = None,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.policy = policy
        self.s3_uri_prefix = s3_uri_prefix
        self.check_interval = check_interval
        self.wait_timeout = wait_timeout
        self.deferrable = deferrable
        self._linger = LINGER
        self._going = GOING

    def run(self, context: Context) -> Teardown:
        """Delete, or keep."""
        from airflow_sm_git.core.checks import check_choice

        check_choice("policy", self.policy, POLICIES)
        deadline = datetime.now(UTC) + timedelta(seconds=seconds("wait_timeout", self.wait_timeout))
        failed = self._failed(context)
        self._warn_if_unswept(context)
        # A job that still runs serves nobody, whatever is kept.
        stopped = [] if self.policy == "never" else self._stop_jobs(context)
        if cut_off := self._cut_off(context):
            self.log.info("Waiting %g s, because %s may still make something", self._linger, ", ".join(cut_off))
            time.sleep(self._linger)
            again = [] if self.policy == "never" else self._stop_jobs(context)
            stopped = list(dict.fromkeys([*stopped, *again]))
        if self.policy == "never" or (self.policy == "on_success" and failed):
            self._keep(context, failed)
        return self._delete(context, deadline, stopped)

    def resume(self, context: Context, event: dict[str, Any]) -> Teardown:
        """Go on when an endpoint that was busy has settled."""
        with final_errors(context):
            if self.is_of_earlier_try(context, event):
                return self.run(context)
            self.note_trouble(event)
            memo = event["memo"]
            return self._delete(context, datetime.fromisoformat(memo["deadline"]), memo["deleted"])

    def _warn_if_unswept(self, context: Context) -> None:
        from airflow_sm_git.clients.sweep_marker import warn_if_unswept

        aws = self.aws()
        try:
            store = aws.store(self.s3_uri_prefix or None)
        except errors.SmGitError as error:
            self.log.warning("When this namespace was last swept cannot be told: %s", error)
        else:
            warn_if_unswept(self.log, store, task_key(context).namespace, aws.sagemaker().region)

    def _failed(self, context: Context) -> list[str]:
        """The work that did not succeed."""
        found = states(context, between(self), context["ti"].map_index)
        return sorted(name for (name, _), state in found.items() if state not in SUCCEEDED)

    def _cut_off(self, context: Context) -> list[str]:
        """The deploys and trainings that somebody has marked while they ran, as far as can be told: each that ends by
        itself leaves its record, or its error."""
        tasks = {task.task_id: task for task in between(self) if is_kind(task, (DeployOperator, TrainOperator))}
        keys = {"failed": ("error", "return_value"), "success": ("return_value",)}  # what is likely first
        pull = context["ti"].xcom_pull
        return [
            task_id
            for (task_id, index), state in states(context, list(tasks.values()), context["ti"].map_index).items()
            if state in keys
            and (state == "failed" or getattr(tasks[task_id], "do_xcom_push", True))
            and all(pull(task_ids=task_id, map_indexes=index, key=key) is None for key in keys[state])
        ]

    def _keep(self, context: Context, failed: list[str]) -> None:
        from airflow_sm_git.compat import AirflowSkipException

        found = [owned for key in self._keys(context, DeployOperator) for owned in self._owned(key)]
        names = [each.name for each in found if each.kind == "Endpoint"]
        command = _remove_command(names, task_key(context).namespace) if names else None
        lease = next((each.tags.get("lease-until") for each in found if each.kind == "Endpoint"), None)
        record = Teardown(
            schema=SCHEMA, policy=self.policy, deleted=[], kept=names, lease_until=lease, remove_command=command
        )
        context["ti"].xcom_push(key="kept", value=record)
        why = f"{', '.join(failed)} did not succeed" if failed else f"the policy is {self.policy!r}"
        said = f"Nothing is deleted, because {why}; and there is no endpoint of this run."
        if names:
            kept = f"Endpoint {', '.join(names)} is kept, because {why}; its lease ends at {lease}."
            said = f"{kept} Remove it with: {command}"
        raise AirflowSkipException(said)

    def _stop_jobs(self, context: Context) -> list[str]:
        from airflow_sm_git.clients.jobs import stop_job

        client = self.aws().sagemaker()
        jobs = [job for key in self._keys(context, TrainOperator) for job in self._owned(key, kinds=("TrainingJob",))]
        stopped = [f"TrainingJob {job.name}" for job in jobs if stop_job(client, job.name, "teardown")]
        if stopped:
            self.log.info("Stopped, because they were still running: %s", ", ".join(stopped))
        return stopped

    def _delete(self, context: Context, deadline: datetime, done: list[str]) -> Teardown:
        """:param done: what has been stopped and deleted already."""
        from airflow_sm_git.clients.owned import delete_owned

        client, interval = self.aws().sagemaker(), seconds("check_interval", self.check_interval)
        deleted, keys = list(done), self._keys(context, DeployOperator)
        while True:
            left, busy = [], []
            for found in [self._owned(key) for key in keys]:
                if endpoint := self._busy(found):
                    busy.append(endpoint)
                    continue
                try:
                    patience = max(deadline.timestamp(), time.time() + self._going)
                    deleted += delete_owned(client, found, interval, patience)
                except errors.TeardownError as error:
                    left.append(error)
            if not busy or datetime.now(UTC) >= deadline:
                break
            self._await_settled(context, busy, deadline, deleted)
        left += [_still_busy(endpoint, deadline) for endpoint in busy]
        self.log.info("Deleted: %s", ", ".join(deleted) or "nothing, all was gone already")
        if left:
            raise errors.TeardownError(" ".join(error.what for error in left), left[0].remedy)
        return Teardown(
            schema=SCHEMA, policy=self.policy, deleted=deleted, kept=[], lease_until=None, remove_command=None
        )

    def _busy(self, found: Sequence[Owned]) -> dict[str, Any] | None:
        """DescribeEndpoint's answer of what is being created or updated among some resources, if anything is."""
        from airflow_sm_git.core.status import ENDPOINT_BUSY

        client = self.aws().sagemaker()
        endpoints = [client.describe("Endpoint", owned.name) for owned in found if owned.kind == "Endpoint"]
        return next((each for each in endpoints if each and each["EndpointStatus"] in ENDPOINT_BUSY), None)

    def _await_settled(
        self, context: Context, busy: list[dict[str, Any]], deadline: datetime, deleted: list[str]
    ) -> None:
        """What is being created or updated cannot be deleted: wait, deferred if wanted, for the first of them.

        Of several, not for long at once: another may settle before it.
        """
        client, endpoint = self.aws().sagemaker(), busy[0]
        name, interval = endpoint["EndpointName"], seconds("check_interval", self.check_interval)
        until = deadline if len(busy) == 1 else min(deadline, datetime.now(UTC) + timedelta(seconds=self._going))
        if is_deferrable(self.deferrable) and not self._stays:
            from airflow_sm_git.triggers.endpoint import EndpointTrigger

            since = iso(endpoint["LastModifiedTime"])
            times: dict[str, Any] = {"since": since, "deadline": iso(until), "check_interval": interval}
            memo = {"deadline": iso(deadline), "deleted": deleted, "try": context["ti"].try_number}
            trigger = EndpointTrigger(name, **times, memo=memo, **self.connection())
            self.wait_in_triggerer(trigger)
        client.wait("Endpoint", name, check_interval=interval, deadline=until.timestamp())

    def _keys(self, context: Context, kind: type) -> list[TaskKey]:
        """The task instances of a kind in this teardown's scope."""
        tasks = [task for task in between(self) if is_kind(task, kind)]
        instances = states(context, tasks, context["ti"].map_index, removed=True)
        return [task_key(context, task_id, index) for task_id, index in sorted(instances)]

    def _owned(self, key: TaskKey, kinds: tuple[str, ...] = ("Endpoint", "EndpointConfig", "Model")) -> list[Owned]:
        from airflow_sm_git.clients.owned import find_owned

        return find_owned(self.aws().sagemaker(), key, kinds)


def _still_busy(endpoint: dict[str, Any], deadline: datetime) -> errors.TeardownError:
    still = f"Endpoint {endpoint['EndpointName']!r} was still {endpoint['EndpointStatus']} at {iso(deadline)}."
    return errors.TeardownError(still, "Clear this task later.")


def _remove_command(names: list[str], namespace: str) -> str:
    """The command that removes endpoints; the shell it is typed into may not know this Airflow's settings."""
    options = [f"--endpoint {name}" for name in names] + (
        [f"--namespace {namespace}"] if namespace != "default" else []
    )
    return " ".join(["airflow-sm-git sweep --delete", *options])
