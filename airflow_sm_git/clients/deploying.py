"""Bring an endpoint to a configuration, in whatever state it is found; every step can be taken again after a crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core import errors
from airflow_sm_git.core.deployment import DeployRequests, EndpointAction, next_action

TRIES = 10
LOOK = "Correct the hosting code; model_fn is the usual cause."


class Deployment:
    """One endpoint on its way to what was requested.

    :param log: takes a format and its arguments.
    :param log_end: what an error shall quote of the endpoint's log, as text to be appended.
    """

    def __init__(
        self,
        client: SageMakerClient,
        requests: DeployRequests,
        *,
        log: Callable[..., None],
        log_end: Callable[[], str],
    ) -> None:
        self._client = client
        self._requests = requests
        self._log = log
        self._log_end = log_end
        self.name = str(requests.endpoint["EndpointName"])
        self.config = str(requests.endpoint_config["EndpointConfigName"])

    def create_parts(self) -> None:
        """Create model and configuration; named after their content, existing ones are the right ones.

        :raises BadParameter: a request has not the form that the API knows; nothing has been made then.
        """
        requests = self._requests
        parts = (("Model", requests.model), ("EndpointConfig", requests.endpoint_config))
        self._client.validate("CreateEndpoint", requests.endpoint)
        self._client.validate("UpdateEndpoint", requests.update)
        for kind, request in parts:
            self._client.validate(f"Create{kind}", request)
        for kind, request in parts:
            if self._client.describe(kind, request[f"{kind}Name"]) is None:
                try:
                    self._client.call(f"Create{kind}", **request)
                except errors.NameInUse:
                    self._log("%s %s was made at the same time", kind, request[f"{kind}Name"])

    def settle(
        self, submitted: str | None, *, wait: Callable[[str | None], None], to_the_end: bool = True
    ) -> tuple[dict[str, Any], bool]:
        """Step on until the endpoint serves the configuration.

        :param submitted: the configuration that this try has asked the endpoint for already.
        :param wait: waits until the endpoint is not busy, given what it has been asked for; may raise.
        :param to_the_end: False to return as soon as the endpoint has been asked.
        :return: DescribeEndpoint's answer, and whether the endpoint serves.
        :raises DeployFailed: it does not, and why.
        :raises DeployRolledBack: it serves what it served before.
        """
        for _ in range(TRIES):
            endpoint = self._client.describe("Endpoint", self.name)
            if submitted == self.config:
                self._check(endpoint)
            action = next_action(endpoint, self.config)
            self._log("Endpoint %s: %s", self.name, action.value)
            if action is EndpointAction.NOTHING and endpoint is not None:
                return endpoint, True
            if action is not EndpointAction.WAIT:
                submitted = self._act(action)
                if submitted and not to_the_end:
                    return self._client.call("DescribeEndpoint", EndpointName=self.name), False
            wait(submitted)
        raise errors.DeployFailed(f"Endpoint {self.name!r} did not settle: others keep changing it.", "Deploy again.")

    def _act(self, action: EndpointAction) -> str | None:
        """Carry out one action; the configuration that the endpoint was asked for, if it was."""
        if action is EndpointAction.DELETE:
            self._client.delete("Endpoint", self.name)
            return None
        try:
            if action is EndpointAction.CREATE:
                self._client.call("CreateEndpoint", **self._requests.endpoint)
            else:
                self._client.call("UpdateEndpoint", **self._requests.update)
        except errors.NameInUse as error:
            self._log("Another one changes the endpoint: %s", error)
            return None
        return self.config

    def _check(self, endpoint: dict[str, Any] | None) -> None:
        name = self.name
        if endpoint is None:
            raise errors.DeployFailed(f"Endpoint {name!r} is gone: somebody deleted it.", "Clear the task.")
        status, reason = endpoint["EndpointStatus"], endpoint.get("FailureReason", "no reason was given")
        if status in ("Failed", "UpdateRollbackFailed", "OutOfService"):
            raise errors.DeployFailed(f"Endpoint {name!r} is {status}: {reason}{self._log_end()}", LOOK)
        if status == "InService" and endpoint["EndpointConfigName"] != self.config:
            live = endpoint["EndpointConfigName"]
            if "FailureReason" not in endpoint:
                raise errors.DeployFailed(
                    f"Endpoint {name!r} serves {live!r}: somebody else has updated it meanwhile.", "Deploy again."
                )
            raise errors.DeployRolledBack(
                f"Endpoint {name!r} was rolled back to {live!r}, which serves on: {reason}{self._log_end()}", LOOK
            )
