"""What an endpoint's description means for who wants it to serve a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_sm_git.core.rollout import (
    Asked,
    EndpointAction,
    asked_already,
    deviations,
    lacks_capacity,
    next_action,
    remedy,
)
from airflow_sm_git.core.status import ENDPOINT


def described(status: str, config: str = "wanted") -> dict[str, Any]:
    return {"EndpointStatus": status, "EndpointConfigName": config}


ACTIONS = {
    "Creating": EndpointAction.WAIT,
    "Updating": EndpointAction.WAIT,
    "SystemUpdating": EndpointAction.WAIT,
    "RollingBack": EndpointAction.WAIT,
    "Deleting": EndpointAction.WAIT,
    "Failed": EndpointAction.DELETE,
    "InService": EndpointAction.NOTHING,
    "OutOfService": EndpointAction.UPDATE,
    "UpdateRollbackFailed": EndpointAction.UPDATE,
}


@pytest.mark.parametrize("status", ENDPOINT)
def test_what_an_endpoint_needs_follows_from_its_status(status: str) -> None:
    assert next_action(described(status), "wanted") is ACTIONS[status]
    other = EndpointAction.UPDATE if status == "InService" else ACTIONS[status]
    assert next_action(described(status, "old"), "wanted") is other


def test_an_endpoint_that_is_not_there_is_created() -> None:
    assert next_action(None, "wanted") is EndpointAction.CREATE
