"""Resources outlive the process, names are unique, and changes are atomic among threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_sm_git.local.store import ENDPOINT, TRAINING_JOB, AlreadyExists, Body, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "resources.sqlite")
    yield store
    store.close()


def job(name: str, status: str = "InProgress") -> Body:
    return {"TrainingJobName": name, "TrainingJobArn": f"arn:{name}", "TrainingJobStatus": status}


def endpoint(name: str) -> Body:
    return {"EndpointName": name, "EndpointArn": f"arn:{name}", "EndpointStatus": "Creating"}


def test_a_name_is_taken_by_the_first_of_many_threads(store: Store) -> None:
    barrier, winners, losers = threading.Barrier(8), [], []

    def create(value: int) -> None:
        barrier.wait()
        try:
            store.insert(TRAINING_JOB, {**job("one"), "Value": value})
            winners.append(value)
        except AlreadyExists as taken:
            losers.append(taken.arn)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = store.get(TRAINING_JOB, "one")
    assert kept is not None
    assert (winners, losers) == ([kept["Value"]], ["arn:one"] * 7)


def test_changes_of_many_threads_are_all_kept(store: Store) -> None:
    store.insert(TRAINING_JOB, {**job("one"), "Count": 0})

    def add() -> None:
        for _ in range(50):
            store.update(TRAINING_JOB, "one", lambda body: body.update(Count=body["Count"] + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = store.get(TRAINING_JOB, "one")
    assert kept is not None
    assert kept["Count"] == 200


def test_a_change_that_fails_changes_nothing(store: Store) -> None:
    store.insert(TRAINING_JOB, job("one"))
    before = store.get(TRAINING_JOB, "one")

    def change(body: Body) -> None:
        body["TrainingJobStatus"] = "Stopping"
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.update(TRAINING_JOB, "one", change)
    assert store.get(TRAINING_JOB, "one") == before


def test_every_change_is_later_than_the_one_before_even_on_a_clock_that_stands(tmp_path: Path) -> None:
    store = Store(tmp_path / "resources.sqlite", clock=lambda: 1000.0)
    times = [store.insert(TRAINING_JOB, {**job("one"), "Step": 0})["LastModifiedTime"]]
    for step in (1, 2):
        body = store.update(TRAINING_JOB, "one", lambda body, step=step: body.update(Step=step))
        assert body is not None
        times.append(body["LastModifiedTime"])
    untouched = store.update(TRAINING_JOB, "one", lambda body: None)
    store.close()
    assert times == [1000.0, 1000.001, 1000.002]
    assert untouched is not None
    assert untouched["LastModifiedTime"] == 1000.002


def test_what_is_not_there_is_none(store: Store) -> None:
    assert store.get(TRAINING_JOB, "one") is None
    assert store.delete(TRAINING_JOB, "one") is None
    assert store.update(TRAINING_JOB, "one", lambda body: body.clear()) is None


def test_endpoint_names_that_differ_in_case_are_one_name_and_job_names_are_not(store: Store) -> None:
    store.insert(ENDPOINT, endpoint("Mine"))
    with pytest.raises(AlreadyExists):
        store.insert(ENDPOINT, endpoint("mine"))
    store.insert(TRAINING_JOB, job("Mine"))
    store.insert(TRAINING_JOB, job("mine"))


def test_tags_go_with_their_resource(store: Store) -> None:
    store.insert(ENDPOINT, endpoint("one"), [{"Key": "a", "Value": "1"}])
    assert store.tags("arn:one") == {"a": "1"}
    assert store.change_tags("arn:one", lambda tags: tags.update(b="2")) == {"a": "1", "b": "2"}
    store.delete(ENDPOINT, "one")
    assert store.tags("arn:one") == {}
    assert not store.has_arn("arn:one")


def test_what_was_committed_outlives_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "resources.sqlite"
    script = f"""
import sys
from pathlib import Path
from airflow_sm_git.local.store import TRAINING_JOB, Store
store = Store(Path({str(path)!r}))
n = 0
while True:
    n += 1
    names = {{"TrainingJobName": f"job-{{n}}", "TrainingJobArn": f"arn:{{n}}"}}
    store.insert(TRAINING_JOB, {{**names, "TrainingJobStatus": "x"}})
    print(n, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(20):
            last = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
    store = Store(path)
    kept = store.query(TRAINING_JOB, "1", (), "ORDER BY created")
    store.close()
    assert last >= 20
    assert {f"job-{n}" for n in range(1, last + 1)} <= {body["TrainingJobName"] for body in kept}
