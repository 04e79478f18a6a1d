"""Wait for an endpoint that somebody else deploys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_git.core.names import check_name
from airflow_sm_git.core.records import Endpoint, load
from airflow_sm_git.sensors.base import StatusSensor

if TYPE_CHECKING:
    from airflow_sm_git.triggers.base import StatusTrigger


class EndpointSensor(StatusSensor):
    """Wait until an endpoint is InService; Failed, OutOfService and UpdateRollbackFailed fail the task.

    :param endpoint: the endpoint's name, or its `Endpoint` record.
    :return: ``{"name": …, "status": "InService"}``.
    """

    kind = "Endpoint"
    template_fields: Sequence[str] = ("endpoint", *StatusSensor.template_fields)

    def __init__(self, *, endpoint: Endpoint | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint

    def target(self) -> str:
        """The endpoint's name."""
        if isinstance(self.endpoint, str) and not self.endpoint.lstrip().startswith("{"):
            return check_name("endpoint", self.endpoint)
        return load(Endpoint, "endpoint", self.endpoint)["endpoint_name"]

    def trigger(self, **kwargs: Any) -> StatusTrigger:
        """The trigger that waits for it."""
        from airflow_sm_git.triggers.endpoint import EndpointTrigger

        return EndpointTrigger(**kwargs)
