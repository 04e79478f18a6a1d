from __future__ import annotations

import botocore.session
import pytest

from airflow_sm_git.core.errors import SmGitError
from airflow_sm_git.core.status import ENDPOINT, ENDPOINT_BUSY, TRAINING_JOB, Phase, phase

MODEL = botocore.session.Session().get_service_model("sagemaker")


@pytest.mark.parametrize(("shape", "table"), [("TrainingJobStatus", TRAINING_JOB), ("EndpointStatus", ENDPOINT)])
def test_the_table_has_exactly_the_statuses_that_botocore_knows(shape: str, table: dict[str, Phase]) -> None:
    assert set(table) == set(MODEL.shape_for(shape).enum)


def test_only_one_status_of_each_kind_is_a_success() -> None:
    assert [status for status, each in TRAINING_JOB.items() if each is Phase.SUCCEEDED] == ["Completed"]
    assert [status for status, each in ENDPOINT.items() if each is Phase.SUCCEEDED] == ["InService"]


def test_stopped_is_neither_success_nor_failure() -> None:
    assert phase(TRAINING_JOB, "Stopped") is Phase.STOPPED


@pytest.mark.parametrize("status", ["OutOfService", "Failed", "UpdateRollbackFailed"])
def test_an_endpoint_that_does_not_serve_has_failed(status: str) -> None:
    assert phase(ENDPOINT, status) is Phase.FAILED


@pytest.mark.parametrize("status", [*sorted(ENDPOINT_BUSY), "Deleting"])
def test_a_busy_endpoint_is_still_running(status: str) -> None:
    assert phase(ENDPOINT, status) is Phase.RUNNING


@pytest.mark.parametrize("table", [TRAINING_JOB, ENDPOINT])
def test_an_unknown_status_is_an_error_that_says_which(table: dict[str, Phase]) -> None:
    with pytest.raises(SmGitError, match=r"'Hibernating'.*Update airflow-sm-git"):
        phase(table, "Hibernating")


def test_nothing_but_running_has_ended() -> None:
    assert [each for each in Phase if not each.ended] == [Phase.RUNNING]
