"""Bring an endpoint to a configuration, in whatever state it is found; every step can be taken again after a crash."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.clients.versions import (
    drop_old_versions,
    forget_that_it_served,
    has_served,
    in_use_now,
    note_that_it_serves,
    tag_served,
)
from airflow_sm_git.core import errors, rollout
from airflow_sm_git.core.deployment import DeployRequests
from airflow_sm_git.core.lease import LEASE
from airflow_sm_git.core.names import TAG_PREFIX, read_tags
from airflow_sm_git.core.rollout import Asked, EndpointAction
from airflow_sm_git.core.trace_reading import CODE

TRIES = 10
_log = logging.getLogger(__name__)


class Deployment:
    """One endpoint on its way to what was requested.

    :param log: takes a format and its arguments.
    :param log_end: given a FailureReason, what the error shall say of the endpoint's log; is appended.
    :param killed: whether nothing more is to be made, because somebody has killed the task.
    """

    def __init__(
        self,
        client: SageMakerClient,
        requests: DeployRequests,
        *,
        log: Callable[..., None],
        log_end: Callable[[str], str],
        killed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = client
        self._requests = requests
        self._log = log
        self._log_end = log_end
        self._killed = killed
        self.name = str(requests.endpoint["EndpointName"])
        self.config = str(requests.endpoint_config["EndpointConfigName"])
        self._tags = read_tags(requests.endpoint["Tags"])
        self._stands = LEASE not in self._tags
        self._may_be_swept = True

    def settle(
        self, asked: Asked | None, *, wait: Callable[[Asked | None], None], to_the_end: bool = True
    ) -> tuple[dict[str, Any], bool]:
        """Step on until the endpoint serves what was requested.

        :param asked: what this try has asked the endpoint for already.
        :param wait: waits until the endpoint is not busy, given what it has been asked for; may raise.
        :param to_the_end: False to return as soon as the endpoint has been asked.
        :return: DescribeEndpoint's answer, and whether the endpoint serves.
        :raises BadParameter: a request has not the form that the API knows; nothing has been made then.
        :raises DeployFailed: it does not serve, and why; or somebody has killed the task.
        :raises DeployedOtherwise: it serves what was requested with other weights or fewer instances.
        :raises DeployRolledBack: it serves what it served before.
        :raises DeployOvertaken: somebody else has changed or deleted it.
        """
        if asked is None:
            self._validate()
            self._create_parts()
        for _ in range(TRIES):
            endpoint = self._client.describe("Endpoint", self.name)
            if asked is not None:
                self._check(endpoint, asked)
            elif endpoint is not None:
                self._keep_from_sweeps(endpoint)
            action = rollout.next_action(endpoint, self.config)
            self._log("Endpoint %s: %s", self.name, action.value)
            if action is EndpointAction.NOTHING and endpoint is not None:
                self._compare(endpoint, asked, strictly=to_the_end)
                return endpoint, True
            if action is EndpointAction.WAIT:
                asked = asked or rollout.asked_already(endpoint, self.config)
            else:
                asked = self._act(action, endpoint)
            if asked and not to_the_end:
                return self._client.call("DescribeEndpoint", EndpointName=self.name), False
            wait(asked)
        raise errors.DeployFailed(f"Endpoint {self.name!r} did not settle: others keep changing it.", "Deploy again.")

    def finish(self, endpoint: dict[str, Any], namespace: str, keep: int | None) -> None:
        """Tag what is live with what it serves, and since when; drop old versions.

        :param endpoint: DescribeEndpoint's answer.
        :param namespace: only versions that carry it are dropped.
        :param keep: how many configurations to keep, the live one included; None for an endpoint of one run.
        """
        arn = endpoint["EndpointArn"]
        self._client.call("AddTags", ResourceArn=arn, Tags=self._requests.endpoint["Tags"])
        if keep is not None:
            self._untag(arn, [LEASE, *CODE])
        if config := self._client.describe("EndpointConfig", self.config):
            tag_served(self._client, config["EndpointConfigArn"], endpoint["LastModifiedTime"])
        if keep is None:
            return
        try:
            in_use = {self.config, *in_use_now(self._client, self.name)}
            dropped = drop_old_versions(self._client, self.name, in_use, namespace, keep=keep)
        except errors.AwsError as error:  # what was asked for is live all the same
            _log.warning(
                "Old versions of endpoint %s could not all be dropped; the next deploy tries: %s", self.name, error
            )
        else:
            self._log("Dropped old versions: %s", ", ".join(dropped) or "none")

    def _untag(self, arn: str, keys: Iterable[str]) -> None:
        """Take our tags of these keys from a resource, where they are not requested: they tell of what it was."""
        there = read_tags(self._client.tags(arn))
        if stale := [f"{TAG_PREFIX}{key}" for key in keys if key in there and key not in self._tags]:
            self._client.call("DeleteTags", ResourceArn=arn, TagKeys=stale)

    def _keep_from_sweeps(self, endpoint: dict[str, Any]) -> None:
        """No lease may end during the rollout: a run's own endpoint may have that of an earlier try, and a standing one
        that of a time when it was a run's own."""
        if not self._may_be_swept or endpoint["EndpointStatus"] == "Deleting":
            return
        with suppress(errors.NotFound):  # it has gone since
            if self._stands:
                self._untag(endpoint["EndpointArn"], [LEASE])
            else:
                self._renew(endpoint["EndpointArn"], self._requests.endpoint["Tags"])
        self._may_be_swept = False

    def _parts(self) -> list[tuple[str, dict[str, Any]]]:
        models = [("Model", request) for request in self._requests.models]
        return [*models, ("EndpointConfig", self._requests.endpoint_config)]

    def _validate(self) -> None:
        self._client.validate("CreateEndpoint", self._requests.endpoint)
        self._client.validate("UpdateEndpoint", self._requests.update)
        for kind, request in self._parts():
            self._client.validate(f"Create{kind}", request)

    def _create_parts(self) -> None:
        """Create models and configuration; named after their content, existing ones are the right ones.

        A second time, if another deploy has dropped a new model as one that no configuration needs.
        """
        try:
            self._create_missing()
        except errors.NotFound as error:
            self._log("Another one has deleted what is needed, so it is made again: %s", error)
            self._create_missing()

    def _create_missing(self) -> None:
        for kind, request in self._parts():
            found = self._client.describe(kind, request[f"{kind}Name"])
            if found is not None:
                self._renew(found[f"{kind}Arn"], request["Tags"])
                continue
            try:
                self._make(f"Create{kind}", request)
            except errors.NameInUse:
                self._log("%s %s was made at the same time", kind, request[f"{kind}Name"])

    def _renew(self, arn: str, tags: list[dict[str, str]]) -> None:
        """Let what an earlier try has made live as long as what this one makes; a standing endpoint's has no lease."""
        if lease := [tag for tag in tags if tag["Key"] == f"{TAG_PREFIX}lease-until"]:
            self._client.call("AddTags", ResourceArn=arn, Tags=lease)

    def _act(self, action: EndpointAction, endpoint: dict[str, Any] | None) -> Asked | None:
        """Carry out one action; what the endpoint was asked for, if it was."""
        try:
            if action is EndpointAction.DELETE:
                self._client.delete("Endpoint", self.name)
                return None
            if action is EndpointAction.CREATE:
                self._make("CreateEndpoint", self._requests.endpoint)
            else:
                self._note_what_served(endpoint)
                self._make("UpdateEndpoint", self._requests.update)
        except errors.NameInUse as error:
            self._log("Another one changes the endpoint: %s", error)
            return None
        except errors.NotFound as error:
            self._log("Another one has deleted what is needed, so it is made again: %s", error)
            self._create_parts()
            return None
        return Asked(self.config, endpoint["EndpointConfigName"] if endpoint else None)

    def _make(self, operation: str, request: dict[str, Any]) -> None:
        """Ask for something that stays, unless nobody would come back to it.

        :raises DeployFailed: somebody has killed the task.
        """
        if self._killed():
            what = f"The task was killed: {operation} for endpoint {self.name!r} was not sent."
            raise errors.DeployFailed(what, "Clear the task to go on.")
        self._client.call(operation, **request)

    def _note_what_served(self, endpoint: dict[str, Any] | None) -> None:
        """What a deploy has put there that did not wait must not count as one that never served."""
        if endpoint is None or not self._stands:
            return
        try:
            note_that_it_serves(self._client, endpoint, self._tags.get("namespace", ""))
        except errors.AwsError as error:
            _log.warning("When %s served could not be written down: %s", endpoint["EndpointConfigName"], error)

    def _check(self, endpoint: dict[str, Any] | None, asked: Asked) -> None:
        """Whether what the endpoint was asked for can still come true.

        :raises DeployError: it cannot.
        """
        name = self.name
        if endpoint is None:
            raise errors.DeployOvertaken(f"Endpoint {name!r} is gone: somebody deleted it.", "Clear the task.")
        status, live = endpoint["EndpointStatus"], endpoint["EndpointConfigName"]
        reason = endpoint.get("FailureReason") or "AWS gave no reason."
        if status in ("Failed", "UpdateRollbackFailed", "OutOfService"):
            kind = errors.DeployOutOfCapacity if rollout.lacks_capacity(reason) else errors.DeployFailed
            raise kind(f"Endpoint {name!r} is {status}: {reason}{self._log_end(reason)}", rollout.remedy(reason))
        if status != "InService" or live == asked.config:
            return
        if live != asked.before:
            remedy = "Clear the task if this one is to serve."
            what = f"Endpoint {name!r} serves {live!r}, not {asked.config!r}: somebody else has updated it meanwhile."
            raise errors.DeployOvertaken(what, remedy)
        rolled_back = errors.DeployOutOfCapacity if rollout.lacks_capacity(reason) else errors.DeployRolledBack
        what = f"Endpoint {name!r} was rolled back to {live!r}, which serves on: {reason}{self._log_end(reason)}"
        raise rolled_back(what, rollout.remedy(reason))

    def _compare(self, endpoint: dict[str, Any], asked: Asked | None, *, strictly: bool) -> None:
        """Compare what is live with what was requested.

        Weights and counts that were changed after a deploy had found them right were changed on purpose, and stay.

        :param strictly: an endpoint that nobody has found right yet must be.
        :raises DeployedOtherwise: what was asked for did not come.
        """
        found = rollout.deviations(endpoint, self._requests.endpoint_config, self._requests.update)
        if found and (asked is not None or (strictly and not has_served(self._client, self.config))):
            what = f"Endpoint {self.name!r} serves {self.config!r}, but not as requested: {'; '.join(found)}."
            remedy = (
                "Put that right with UpdateEndpointWeightsAndCapacities and clear the task, or ask for what is there;"
                " see who changes its weights or instances."
            )
            try:
                forget_that_it_served(self._client, self.config)
            except errors.AwsError as error:
                _log.warning("A later deploy may take %s for right, as it once was: %s", self.config, error)
            raise errors.DeployedOtherwise(what, remedy)
        if found:
            self._log("Changed since it was deployed, and left so: %s", "; ".join(found))
