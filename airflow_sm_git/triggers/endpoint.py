"""Wait for an endpoint without a worker."""

from __future__ import annotations

from airflow_sm_git.triggers.base import StatusTrigger


class EndpointTrigger(StatusTrigger):
    """Wait until an endpoint is in service, has failed, or is gone; parameters as `StatusTrigger`'s."""

    kind = "Endpoint"
