"""Filters, order and pages of the List actions: the query on a store of its own, the wire through boto3."""

from __future__ import annotations

import base64
import datetime
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_sm_git.local.errors import ApiError
from airflow_sm_git.local.listing import LISTINGS, list_resources
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from airflow_sm_git.local.store import TRAINING_JOB, Store
from tests.local.sagemaker_requests import IMAGE, client, ended, training_job, unique

JOBS = LISTINGS["ListTrainingJobs"]
STATUSES = ("InProgress", "Completed", "Failed")


class Clock:
    """Stands until told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Forty jobs, four for each second from 1000 to 1009, in a jumbled order of names."""
    clock = Clock()
    store = Store(Path(tmp_path_factory.mktemp("listing")) / "resources.sqlite", clock=clock)
    numbers = list(range(40))
    random.Random(7).shuffle(numbers)  # noqa: S311 - an order, not a secret
    for position, number in enumerate(numbers):
        clock.now = 1000.0 + position // 4
        store.insert(
            TRAINING_JOB,
            {
                "TrainingJobName": f"{'odd' if number % 2 else 'even'}-{number:02d}",
                "TrainingJobArn": f"arn:{number}",
                "TrainingJobStatus": STATUSES[number % 3],
                "SecondaryStatus": "x",
                "ResourceConfig": {"TrainingPlanArn": f"plan-{number % 2}"},
                **({"WarmPoolStatus": {"Status": "Terminated"}} if number < 5 else {}),
            },
        )
    yield store
    store.close()


def names(page: dict[str, Any]) -> list[str]:
    return [job["TrainingJobName"] for job in page["TrainingJobSummaries"]]


def pages(store: Store, **request: Any) -> Iterator[list[str]]:
    while True:
        page = list_resources(store, JOBS, request)
        yield names(page)
        if "NextToken" not in page:
            return
        request["NextToken"] = page["NextToken"]


def test_a_page_has_ten_entries_unless_asked_otherwise_and_the_last_has_no_token(store: Store) -> None:
    assert [len(page) for page in pages(store)] == [10, 10, 10, 10]
    assert [len(page) for page in pages(store, MaxResults=39)] == [39, 1]


@settings(max_examples=60, deadline=None)
@given(
    sort=st.sampled_from(["Name", "CreationTime", "Status"]),
    order=st.sampled_from(["Ascending", "Descending"]),
    size=st.integers(1, 45),
    status=st.sampled_from([None, *STATUSES]),
    part=st.sampled_from([None, "odd", "-1", "nothing"]),
    after=st.sampled_from([None, 1003.0]),
    before=st.sampled_from([None, 1008.0]),
)
def test_pages_together_hold_what_the_filters_select_once_and_in_order(
    store: Store,
    sort: str,
    order: str,
    size: int,
    status: str | None,
    part: str | None,
    after: float | None,
    before: float | None,
) -> None:
    asked = {
        "StatusEquals": status,
        "NameContains": part,
        "CreationTimeAfter": after,
        "LastModifiedTimeBefore": before,
    }
    given_ = {name: value for name, value in asked.items() if value is not None}
    found = [name for page in pages(store, SortBy=sort, SortOrder=order, MaxResults=size, **given_) for name in page]

    everything = store.query(TRAINING_JOB, "1", (), "")
    wanted = [
        job
        for job in everything
        if status in (None, job["TrainingJobStatus"])
        and (part or "") in job["TrainingJobName"]
        and (after or 0) <= job["CreationTime"]
        and job["LastModifiedTime"] < (before or 9999)
    ]
    member = {"Name": "TrainingJobName", "CreationTime": "CreationTime", "Status": "TrainingJobStatus"}[sort]
    wanted.sort(key=lambda job: (job[member], job["TrainingJobName"]), reverse=order == "Descending")
    assert found == [job["TrainingJobName"] for job in wanted]


def test_nested_members_can_be_filtered_by_and_are_in_the_summary(store: Store) -> None:
    assert len(names(list_resources(store, JOBS, {"WarmPoolStatusEquals": "Terminated", "MaxResults": 100}))) == 5
    page = list_resources(store, JOBS, {"TrainingPlanArnEquals": "plan-1", "MaxResults": 100})
    assert {job["TrainingPlanArn"] for job in page["TrainingJobSummaries"]} == {"plan-1"}
    assert len(names(page)) == 20


def test_a_resource_made_between_two_pages_neither_hides_nor_repeats_another(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(tmp_path / "resources.sqlite", clock=clock)

    def add(name: str) -> None:
        clock.now += 1
        body = {"TrainingJobName": name, "TrainingJobArn": name, "TrainingJobStatus": "x", "ResourceConfig": {}}
        store.insert(TRAINING_JOB, body)

    for name in "abcdef":
        add(name)
    request = {"SortOrder": "Descending", "MaxResults": 3}
    first = list_resources(store, JOBS, request)
    add("g")
    store.delete(TRAINING_JOB, "d")
    second = list_resources(store, JOBS, {**request, "NextToken": first["NextToken"]})
    store.close()
    assert names(first) + names(second) == list("fedcba")


@pytest.mark.parametrize("token", ["nonsense", base64.urlsafe_b64encode(b'{"after": [1]}').decode()])
def test_a_token_of_nobody_or_of_another_query_is_refused(store: Store, token: str) -> None:
    with pytest.raises(ApiError, match="Invalid NextToken"):
        list_resources(store, JOBS, {"NextToken": token})
    other = list_resources(store, JOBS, {"NameContains": "odd"})["NextToken"]
    with pytest.raises(ApiError, match="Invalid NextToken"):
        list_resources(store, JOBS, {"NextToken": other})


def test_boto3s_paginators_and_filters_find_what_was_created(local_sagemaker: LocalSageMaker) -> None:
    sagemaker = client(local_sagemaker, "sagemaker")
    mark = unique("listed")
    for number in range(3):
        sagemaker.create_model(ModelName=f"{mark}-{number}", PrimaryContainer={"Image": IMAGE})
    found = sagemaker.get_paginator("list_models").paginate(NameContains=mark, PaginationConfig={"PageSize": 2})
    listed = list(found.search("Models[].ModelName"))
    assert listed == [f"{mark}-2", f"{mark}-1", f"{mark}-0"]  # newest first

    start = datetime.datetime.now(datetime.UTC)
    request = training_job(local_sagemaker, "raise SystemExit(3)", name=f"{mark}-job")
    sagemaker.create_training_job(**request)
    described = ended(local_sagemaker, f"{mark}-job")
    [summary] = sagemaker.list_training_jobs(
        NameContains=mark, StatusEquals="Failed", LastModifiedTimeAfter=start - datetime.timedelta(seconds=1)
    )["TrainingJobSummaries"]
    members = (
        *("TrainingJobName", "TrainingJobArn", "TrainingJobStatus", "SecondaryStatus"),
        *("CreationTime", "LastModifiedTime", "TrainingEndTime"),
    )
    assert summary == {name: described[name] for name in members}
    later = start + datetime.timedelta(hours=1)
    assert sagemaker.list_training_jobs(NameContains=mark, CreationTimeAfter=later)["TrainingJobSummaries"] == []
    with pytest.raises(ClientError, match="less than or equal to 100"):
        sagemaker.list_endpoints(MaxResults=101)
