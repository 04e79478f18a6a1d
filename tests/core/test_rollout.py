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


PENDING = {"PendingDeploymentSummary": {"EndpointConfigName": "wanted"}}


@pytest.mark.parametrize(
    ("endpoint", "asked"),
    [
        (None, None),
        (described("Creating"), Asked("wanted", None)),
        (described("Creating", "old"), None),
        ({**described("Updating", "old"), **PENDING}, Asked("wanted", "old")),
        ({**described("Updating", "old"), "PendingDeploymentSummary": {"EndpointConfigName": "third"}}, None),
        (described("Updating"), None),
        ({**described("InService", "old"), **PENDING}, None),
        ({**described("Deleting", "old"), **PENDING}, None),
    ],
)
def test_an_endpoint_that_is_on_its_way_already_need_not_be_asked_again(
    endpoint: dict[str, Any] | None, asked: Asked | None
) -> None:
    assert asked_already(endpoint, "wanted") == asked


def variant(name: str = "a", **members: Any) -> dict[str, Any]:
    return {"VariantName": name, "InitialInstanceCount": 2, "InitialVariantWeight": 0.3, **members}


def live(name: str = "a", **members: Any) -> dict[str, Any]:
    same = {"CurrentInstanceCount": 2, "DesiredInstanceCount": 2, "CurrentWeight": 0.3, "DesiredWeight": 0.3}
    return {"VariantName": name, **same, **members}


RETAIN = {"RetainAllVariantProperties": True}


@pytest.mark.parametrize(
    ("serving", "wanted", "update", "found"),
    [
        ([live()], [variant()], {}, []),
        ([live(CurrentWeight=0.30000001192092896)], [variant()], {}, []),
        ([live(CurrentInstanceCount=5, DesiredInstanceCount=5)], [variant()], {}, []),
        ([live(CurrentInstanceCount=1)], [variant()], {}, ["variant 'a' has 1 instances of 2"]),
        ([live(CurrentWeight=1)], [variant()], {}, ["variant 'a' has the weight 1, not 0.3"]),
        ([live(DesiredWeight=0)], [variant()], {}, ["variant 'a' has the desired weight 0, not 0.3"]),
        ([live("b")], [variant()], {}, ["variant 'a' is missing", "variant 'b' was not asked for"]),
        ([], [variant()], {}, ["variant 'a' is missing"]),
        ([live(CurrentInstanceCount=1, CurrentWeight=1)], [variant()], RETAIN, []),
        (
            [live(CurrentInstanceCount=1, CurrentWeight=1)],
            [variant()],
            {**RETAIN, "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredInstanceCount"}]},
            ["variant 'a' has 1 instances of 2"],
        ),
        ([live(CurrentInstanceCount=1)], [variant(ManagedInstanceScaling={"Status": "ENABLED"})], {}, []),
        (
            [{"VariantName": "a", "CurrentWeight": 1.0}],
            [{"VariantName": "a", "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1}}],
            {},
            [],
        ),
    ],
)
def test_what_is_live_and_not_as_asked_is_named(
    serving: list[dict[str, Any]], wanted: list[dict[str, Any]], update: dict[str, Any], found: list[str]
) -> None:
    assert deviations({"ProductionVariants": serving}, {"ProductionVariants": wanted}, update) == found


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error.", "later"),
        ("The primary container for production variant a did not pass the ping health check.", "model_fn"),
        ("Failed to download model data for container from URL.", "archive"),
        ("The account-level service limit 'ml.m5.large for endpoint usage' is 0 Instances", "quota"),
        ("One or more Alarms are in the state ALARM", "alarms"),
    ],
)
def test_each_reason_has_its_remedy(reason: str, word: str) -> None:
    assert word in remedy(reason)
    assert lacks_capacity(reason) == (word == "later")
