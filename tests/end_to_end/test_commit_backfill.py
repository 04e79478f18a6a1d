"""The commit backfill example: every commit its own endpoint and teardown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_runner import Run, Runner
from tests.small_model import small_corpus, small_repository

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[2] / "dags" / "examples" / "commit_backfill.py"
CHAIN = "one.train_deploy_predict"


def backfill(airflow: Runner, folder: Path, *, bad: int = 0) -> tuple[Run, list[str]]:
    """Run the example over the last three of four commits; the run, and those three."""
    repository, shas = small_repository(folder / "repository.git", 4, bad=bad)
    conf = {"repo": repository.url, "data": small_corpus(folder / "corpus"), "commits": 3, "epochs": 1}
    return airflow.run(airflow.load(EXAMPLE, "commit_backfill"), conf), shas[1:]


def endpoints(airflow: Runner, run: Run, action: str) -> set[str]:
    """The endpoints of a run with which an action succeeded, in the server's request log."""
    started = {record["endpoint_name"] for record in records(run, "deploy").values()}
    requests = airflow.sagemaker.requests()
    return {each["resource"] for each in requests if each["action"] == action and not each["error"]} & started


def records(run: Run, step: str) -> dict[int, dict[str, Any]]:
    """What a step of the mapped chain returned, by index."""
    found = ((index, run.xcom(f"{CHAIN}.{step}", map_index=index)) for index in range(3))
    return {index: record for index, record in found if record is not None}


def rows(run: Run) -> list[list[str]]:
    """The cells of the table that the report prints."""
    lines = [line.strip() for line in run.log.splitlines()]
    start = next(number for number, line in enumerate(lines) if line.startswith("index "))
    return [re.split(r"  +", line) for line in lines[start : start + 4]]


def test_every_commit_is_trained_and_served_from_an_endpoint_of_its_own_and_compared(
    airflow: Runner, tmp_path: Path
) -> None:
    run, shas = backfill(airflow, tmp_path)

    assert run.state == "success", run.log
    assert [record["commit"] for record in records(run, "checkout").values()] == shas
    bodies = [record["body"] for record in records(run, "predict").values()]
    assert bodies == [f"version {version} after one sentence, 20 words" for version in (2, 3, 4)]
    assert len(endpoints(airflow, run, "CreateEndpoint")) == 3
    assert endpoints(airflow, run, "DeleteEndpoint") == endpoints(airflow, run, "CreateEndpoint")
    assert rows(run) == [
        ["index", "commit", "subject", "status", "validation:perplexity", "endpoint"],
        ["0", shas[0][:12], "version 2", "success", "50", "deleted"],
        ["1", shas[1][:12], "version 3", "success", "33.3333", "deleted"],
        ["2", shas[2][:12], "version 4", "success", "25", "deleted"],
    ]


def test_a_commit_that_cannot_train_does_not_keep_the_others_from_it_and_leaves_nothing(
    airflow: Runner, tmp_path: Path
) -> None:
    run, shas = backfill(airflow, tmp_path, bad=3)

    assert run.state == "failed"
    assert run.states[f"{CHAIN}.train[1]"] == "failed"
    assert {run.states[f"{CHAIN}.{step}[{index}]"] for step in ("predict", "teardown") for index in (0, 2)} == {
        "success"
    }
    assert run.states[f"{CHAIN}.teardown[1]"] == "success"
    assert "this version cannot train" in str(run.errors[f"{CHAIN}.train[1]"])
    assert [row[1:4] for row in rows(run)[1:]] == [
        [shas[0][:12], "version 2", "success"],
        [shas[1][:12], "version 3", "train failed"],
        [shas[2][:12], "version 4", "success"],
    ]
    assert len(endpoints(airflow, run, "CreateEndpoint")) == 2
    assert endpoints(airflow, run, "DeleteEndpoint") == endpoints(airflow, run, "CreateEndpoint")
    left = airflow.sagemaker.client("sagemaker")
    for listing, name in (("endpoints", "Endpoints"), ("endpoint_configs", "EndpointConfigs"), ("models", "Models")):
        assert getattr(left, f"list_{listing}")(NameContains="commit-backfill")[name] == []
