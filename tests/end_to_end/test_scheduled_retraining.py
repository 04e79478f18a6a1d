"""The scheduled example: a run trains what the branch held at the run's time, whenever the run runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_runner import Runner
from tests.small_model import small_corpus, small_repository

EXAMPLE = Path(__file__).resolve().parents[2] / "dags" / "examples" / "scheduled_retraining.py"
GROUP = "train_deploy_predict"


def night(day: int) -> dict[str, Any]:
    """What the scheduler gives the run at two o'clock of a day of January 2024."""
    from airflow.timetables.base import DataInterval
    from airflow.utils.types import DagRunType
    from pendulum import instance

    moment = instance(datetime(2024, 1, day, 2, tzinfo=UTC))
    return {
        "logical_date": moment,
        "data_interval": DataInterval.exact(moment),
        "run_after": moment,
        "run_type": DagRunType.SCHEDULED,
    }


@pytest.mark.slow
def test_three_nights_train_three_commits_and_a_manual_run_the_tip(
    airflow: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, shas = small_repository(tmp_path / "repository.git", 3, hours=24)  # made at midnight before each night
    monkeypatch.setenv("SM_GIT_EXAMPLE_REPO", repository.url)
    monkeypatch.setenv("SM_GIT_EXAMPLE_DATA", small_corpus(tmp_path / "corpus"))
    dag = airflow.load(EXAMPLE, "scheduled_retraining")

    nights = [airflow.run(dag, **night(day)) for day in (2, 3, 4)]
    by_hand = airflow.run(dag)

    assert [run.state for run in [*nights, by_hand]] == ["success"] * 4
    assert [run.xcom(f"{GROUP}.package")["commit"] for run in nights] == shas
    assert [run.xcom(f"{GROUP}.predict")["body"].partition(" after")[0] for run in nights] == [
        "version 1",
        "version 2",
        "version 3",
    ]
    assert by_hand.xcom(f"{GROUP}.package")["commit"] == shas[-1]


def test_a_night_before_the_first_commit_says_so(
    airflow: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, _ = small_repository(tmp_path / "repository.git", hours=24)
    monkeypatch.setenv("SM_GIT_EXAMPLE_REPO", repository.url)
    monkeypatch.setenv("SM_GIT_EXAMPLE_DATA", small_corpus(tmp_path / "corpus"))

    run = airflow.run(airflow.load(EXAMPLE, "scheduled_retraining"), **night(1))

    assert run.state == "failed"
    assert "2024-01-01T02:00:00" in str(run.errors[f"{GROUP}.checkout"])
