"""The sweep example as it stands: what runs have kept goes when its lease has ended, and not before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import steps
from tests.airflow_runner import Runner
from tests.local.sagemaker_requests import unique

EXAMPLE = Path(__file__).resolve().parents[2] / "dags" / "examples" / "sweep.py"


def keep(airflow: Runner) -> list[str]:
    """Let a run deploy, and tear nothing down; what is left of it."""
    with airflow.dag() as dag:
        steps.deploy(package=steps.package(airflow.sagemaker), model_data=steps.model_data(airflow.sagemaker))
    made = airflow.run(dag).xcom("deploy")
    kinds = {"Endpoint": "endpoint_name", "EndpointConfig": "endpoint_config_name", "Model": "model_name"}
    return [f"{kind} {made[key]}" for kind, key in kinds.items()]


def sweep(airflow: Runner, **params: Any) -> Any:
    """Run the example; its record."""
    dag = airflow.load(EXAMPLE, "sweep")
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    run = airflow.run(dag, params)
    assert run.state == "success", run.log
    return run.xcom("sweep")


def test_what_runs_have_kept_is_swept_when_its_lease_has_ended_or_it_is_older_than_asked(
    airflow: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SM_GIT__NAMESPACE", unique("ns"))
    leased = keep(airflow)
    monkeypatch.setenv("AIRFLOW__SM_GIT__LEASE", "0")
    expired = keep(airflow)

    listing = sweep(airflow, delete=False)
    assert (listing["deleted"], set(listing["kept"])) == ([], {*leased, *expired})
    swept = sweep(airflow)
    assert (swept["deleted"], swept["kept"]) == (expired, leased)
    assert sweep(airflow, older_than="1s")["deleted"] == leased
    assert sweep(airflow)["listed"] == []
