"""The quickstart example as it stands, through Airflow, deferred."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.airflow_runner import Runner
from tests.small_model import small_corpus, small_repository

EXAMPLE = Path(__file__).resolve().parents[2] / "dags" / "examples" / "quickstart.py"
GROUP = "train_deploy_predict"


def test_the_quickstart_answers_from_an_endpoint_that_then_is_gone(airflow: Runner, tmp_path: Path) -> None:
    repository, [sha] = small_repository(tmp_path / "repository.git")
    conf = {"repo": repository.url, "data": small_corpus(tmp_path / "corpus"), "epochs": 2}

    run = airflow.run(airflow.load(EXAMPLE, "quickstart"), conf)

    assert run.state == "success", run.log
    assert {f"{GROUP}.train", f"{GROUP}.deploy"} <= set(run.deferrals)
    record = run.xcom(f"{GROUP}.report")["indexes"]["-1"]
    assert record["checkout"]["commit"] == sha
    assert record["prediction"]["body"] == "version 1 after one sentence, 100 words"
    assert record["training_job"]["metrics"] == {
        "validation:perplexity": 100.0,
        "initial:perplexity": 100.0,
        "unigram:perplexity": 100.0,
    }
    name = record["endpoint"]["endpoint_name"]
    assert [each for each in airflow.sagemaker.requests() if each["resource"] == name and each["status"] == 200] != []
    sent = [each["action"] for each in airflow.sagemaker.requests() if each["resource"] == name and not each["error"]]
    assert sent.index("CreateEndpoint") < sent.index("InvokeEndpoint") < sent.index("DeleteEndpoint")
    with pytest.raises(Exception, match="Could not find endpoint"):
        airflow.sagemaker.client("sagemaker").describe_endpoint(EndpointName=name)
