"""The example with a form: everything is a Param, and the ref is pinned when the run starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.airflow_runner import Run, Runner
from tests.small_model import files, small_corpus, small_repository

EXAMPLE = Path(__file__).resolve().parents[2] / "dags" / "examples" / "ui_trigger.py"
GROUP = "train_deploy_predict"


def start(airflow: Runner, conf: dict[str, Any]) -> Run:
    """Run the example with a form filled in so."""
    return airflow.run(airflow.load(EXAMPLE, "ui_trigger"), conf)


def test_moving_the_branch_during_the_run_changes_nothing(airflow: Runner, tmp_path: Path) -> None:
    repository, [first] = small_repository(tmp_path / "repository.git")
    dag = airflow.load(EXAMPLE, "ui_trigger")
    moved = []
    for version, step in enumerate(("checkout", "package", "train"), start=2):

        def move(_: Any, version: int = version) -> None:
            moved.append(repository.commit(files(version), subject=f"version {version}"))

        dag.task_dict[f"{GROUP}.{step}"].on_success_callback = [move]

    run = airflow.run(dag, {"repo": repository.url, "data": small_corpus(tmp_path / "corpus")})

    assert run.state == "success", run.log
    assert len(moved) == 3
    assert repository.sha("main") == moved[-1]
    record = run.xcom(f"{GROUP}.report")["indexes"]["-1"]
    commits = {section: record[section]["commit"] for section in ("checkout", "package", "training_job", "endpoint")}
    assert commits == dict.fromkeys(commits, first)
    assert record["prediction"]["body"] == "version 1 after one sentence, 20 words"


def test_the_form_chooses_ref_scripts_hyperparameters_and_request(airflow: Runner, tmp_path: Path) -> None:
    repository, shas = small_repository(tmp_path / "repository.git", 2)
    scripts = {
        "fit.py": files(7)["train.py"],
        "answer.py": files(7)["generate.py"],
        "train.py": None,
        "generate.py": None,
    }
    renamed = repository.commit(scripts, branch="renamed", start=shas[0], subject="other names")

    run = start(
        airflow,
        {
            "repo": repository.url,
            "ref": "renamed",
            "entry_point": "fit.py",
            "hosting_entry_point": "answer.py",
            "data": small_corpus(tmp_path / "corpus"),
            "hyperparameters": {"epochs": 3, "sleep": 0.5},
            "request": {"words": 4},
        },
    )

    assert run.state == "success", run.log
    record = run.xcom(f"{GROUP}.report")["indexes"]["-1"]
    assert record["checkout"]["commit"] == renamed
    assert record["prediction"]["body"] == "version 7 after one sentence, 4 words"
    job = airflow.sagemaker.client("sagemaker").describe_training_job(
        TrainingJobName=record["training_job"]["job_name"]
    )
    assert {name: job["HyperParameters"][name] for name in ("epochs", "sleep")} == {"epochs": "3", "sleep": "0.5"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "fails", "remains"),
    [("on_success", True, True), ("always", True, False), ("never", False, True)],
)
def test_the_form_chooses_what_remains(
    airflow: Runner, tmp_path: Path, policy: str, fails: bool, remains: bool
) -> None:
    repository, _ = small_repository(tmp_path / "repository.git")
    request = {"words": 13 if fails else 4}  # at thirteen the handler raises
    conf = {"repo": repository.url, "data": small_corpus(tmp_path / "corpus"), "request": request, "policy": policy}
    conf["hyperparameters"] = {"epochs": 1}

    run = start(airflow, conf)

    assert run.state == ("failed" if fails else "success")
    sagemaker = airflow.sagemaker.client("sagemaker")
    name = run.xcom(f"{GROUP}.deploy")["endpoint_name"]
    assert [each["EndpointName"] for each in sagemaker.list_endpoints(NameContains=name)["Endpoints"]] == (
        [name] if remains else []
    )
    said = f"Remove it with: airflow-sm-git sweep --delete --endpoint {name}"
    assert (said in run.log) == remains
    airflow.sagemaker.keep(name)
