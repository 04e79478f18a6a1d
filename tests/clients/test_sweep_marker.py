"""The mark that a sweep leaves, and the warning where there is none of late."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_sm_git.clients.s3 import Store
from airflow_sm_git.clients.sweep_marker import last_swept, mark_swept, try_to_mark, warn_if_unswept
from airflow_sm_git.core.errors import AwsError
from airflow_sm_git.core.sweep_record import Sweep, sweep_record
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import BUCKET, client, put, unique

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
REGION = "us-east-1"
log = logging.getLogger(__name__)


@pytest.fixture
def prefix() -> str:
    return unique("tests/marks")


@pytest.fixture
def store(local_sagemaker: LocalSageMaker, prefix: str) -> Store:
    return Store(client(local_sagemaker, "s3"), f"s3://{BUCKET}/{prefix}")


def record(namespace: str = "ns", **changes: Any) -> Sweep:
    return sweep_record([], **{"namespace": namespace, "region": REGION, "now": NOW, "delete": True, **changes})


def test_a_sweep_is_known_by_namespace_and_region_and_the_last_one_counts(store: Store) -> None:
    assert last_swept(store, "ns", REGION) is None
    mark_swept(store, record(now=NOW - timedelta(days=3)))
    mark_swept(store, record())
    assert last_swept(store, "ns", REGION) == NOW
    assert last_swept(store, "other", REGION) is None
    assert last_swept(store, "ns", "eu-west-1") is None


@pytest.mark.parametrize("namespace", ["", "a/b", "../x", "漢字", "a b", "100%"])
def test_any_namespace_has_a_mark_of_its_own(store: Store, namespace: str) -> None:
    mark_swept(store, record(namespace))
    assert last_swept(store, namespace, REGION) == NOW
    assert last_swept(store, f"{namespace}x", REGION) is None


@pytest.mark.parametrize("body", ["", "no JSON", "[]", "{}", '{"swept_at": 3}', '{"swept_at": "2026-05-01"}'])
def test_what_is_no_mark_is_no_sweep(local_sagemaker: LocalSageMaker, store: Store, prefix: str, body: str) -> None:
    put(local_sagemaker, body, f"{prefix}/sweeps/{REGION}/ns.json")
    assert last_swept(store, "ns", REGION) is None


def test_a_sweep_that_only_lists_or_has_not_done_all_leaves_no_mark(store: Store) -> None:
    for unfinished in (record(delete=False), record(failed=["something"])):
        try_to_mark(store, unfinished, log)
        assert last_swept(store, "ns", REGION) is None
    try_to_mark(store, record(), log)
    assert last_swept(store, "ns", REGION) == NOW


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (None, "Nothing has swept the namespace 'ns' in us-east-1 yet, as far as is known"),
        (timedelta(days=7, seconds=1), "in us-east-1 since 2026-04-24T11:59:59+00:00: what runs leave there"),
        (timedelta(days=7), ""),
        (timedelta(0), ""),
    ],
)
def test_a_week_without_a_sweep_is_a_warning(
    store: Store, caplog: pytest.LogCaptureFixture, age: timedelta | None, said: str
) -> None:
    if age is not None:
        mark_swept(store, record(now=NOW - age))
    warn_if_unswept(log, store, "ns", REGION, NOW)
    assert said in caplog.text
    assert ("airflow-sm-git sweep --delete" in caplog.text) == bool(said)


def test_a_store_that_cannot_be_asked_is_a_warning_and_never_an_error(
    local_sagemaker: LocalSageMaker, store: Store, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with local_sagemaker.fault("denied", service="s3", resource=prefix, times=0):
        with pytest.raises(AwsError):
            last_swept(store, "ns", REGION)
        assert warn_if_unswept(log, store, "ns", REGION, NOW) is None
        try_to_mark(store, record(), log)
    assert "was last swept cannot be told: GetObject" in caplog.text
    assert "This sweep leaves no mark of when it was: PutObject" in caplog.text
