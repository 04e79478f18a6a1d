"""A connection of type ``aws``: what goes wrong before there is a client is an error like those of its calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_sm_git.core import errors
from airflow_sm_git.hooks.aws import AwsHook
from airflow_sm_git.local.pytest_plugin import LocalSageMaker

ASKS: list[Callable[[AwsHook], object]] = [
    lambda hook: hook.sagemaker().describe("Endpoint", "e"),
    lambda hook: hook.runtime(),
    lambda hook: hook.logs(),
    lambda hook: hook.store("s3://bucket"),
    lambda hook: hook.keys(),
    lambda hook: hook.region(),
    lambda hook: hook.account(),
]


@pytest.fixture
def with_role(local_sagemaker: LocalSageMaker, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AwsHook]:
    """A hook whose connection has to assume a role first."""

    def make(**extra: Any) -> AwsHook:
        connection = json.loads(local_sagemaker.env["AIRFLOW_CONN_AWS_DEFAULT"])
        connection["extra"] |= {"role_arn": "arn:aws:iam::123456789012:role/deployer", **extra}
        monkeypatch.setenv("AIRFLOW_CONN_WITH_ROLE", json.dumps(connection))
        return AwsHook("with_role")

    return make


@pytest.mark.parametrize("ask", ASKS)
def test_an_outage_while_a_role_is_assumed_can_be_borne(
    with_role: Callable[..., AwsHook], ask: Callable[[AwsHook], object]
) -> None:
    one_try = {"config_kwargs": {"retries": {"total_max_attempts": 1}}}
    hook = with_role(service_config={"sts": {"endpoint_url": "http://127.0.0.1:9"}}, **one_try)
    with pytest.raises(errors.ServiceFault, match=r"connection 'with_role' got no answer: .*127\.0\.0\.1:9") as error:
        ask(hook)
    assert error.value.retryable


def test_a_role_that_may_not_be_assumed_is_told_with_the_missing_action(
    with_role: Callable[..., AwsHook], local_sagemaker: LocalSageMaker
) -> None:
    with local_sagemaker.fault("denied", service="sts", action="AssumeRole", times=0) as fault:
        with pytest.raises(errors.AccessDenied, match="AssumeRole for connection 'with_role'") as error:
            with_role(service_config={"sts": {"endpoint_url": local_sagemaker.url}}).logs()
        assert fault.rule["hits"] == 1
    assert "sts:AssumeRole" in error.value.remedy
    assert not error.value.retryable


def test_a_missing_region_is_told_with_where_to_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", json.dumps({"conn_type": "aws", "login": "a", "password": "b"}))
    with pytest.raises(errors.AwsError, match=r"connection 'nowhere'.*region") as error:
        AwsHook("nowhere").sagemaker().describe("Endpoint", "e")
    assert "region" in error.value.remedy
