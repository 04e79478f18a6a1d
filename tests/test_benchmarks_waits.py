"""What the measurement of waits rests on: how it counts, and that its stub lists as the API does."""

from __future__ import annotations

import time

import pytest

from benchmarks.waits import fullest
from benchmarks.waits_server import PAGE, Stub


@pytest.mark.parametrize(
    ("times", "most"),
    [([], 0), ([5.0], 1), ([0.0, 59.9], 2), ([0.0, 60.0], 1), ([0.0, 50.0, 100.0, 101.0, 109.0], 4)],
)
def test_the_fullest_minute_may_begin_at_any_time(times: list[float], most: int) -> None:
    assert fullest(times) == most


def listed(stub: Stub, **request: object) -> list[str]:
    """Names that the stub lists, all pages."""
    names: list[str] = []
    while True:
        status, answer = stub.answer("SageMaker.ListTrainingJobs", {"MaxResults": 100, **request})
        assert status == 200
        assert len(answer["TrainingJobSummaries"]) <= PAGE
        names += [job["TrainingJobName"] for job in answer["TrainingJobSummaries"]]
        if "NextToken" not in answer:
            return names
        request["NextToken"] = answer["NextToken"]


def test_the_stub_lists_by_time_of_change_in_pages_and_counts_each() -> None:
    stub = Stub()
    stub.control({"do": "create", "count": 250, "age": 600.0})
    assert len(set(listed(stub, LastModifiedTimeAfter=time.time() - 700))) == 250
    assert len(stub.calls) == 3
    assert listed(stub, LastModifiedTimeAfter=time.time() - 60) == []
    stub.control({"do": "finish", "names": ["waits-00007"], "over": 0})
    assert listed(stub, LastModifiedTimeAfter=time.time() - 60) == ["waits-00007"]


@pytest.mark.parametrize(("hidden", "by_status"), [("time", ["waits-00000"]), ("all", [])])
def test_a_hidden_end_shows_in_no_listing_by_time_but_in_a_describe(hidden: str, by_status: list[str]) -> None:
    stub = Stub()
    stub.control({"do": "create", "count": 1, "age": 600.0})
    stub.control({"do": "finish", "over": 0, "hidden": hidden})
    assert listed(stub, LastModifiedTimeAfter=time.time() - 60) == []
    assert listed(stub, StatusEquals="Completed") == by_status
    _, answer = stub.answer("SageMaker.DescribeTrainingJob", {"TrainingJobName": "waits-00000"})
    assert answer["TrainingJobStatus"] == "Completed"
