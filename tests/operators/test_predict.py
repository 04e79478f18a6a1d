"""Predict: one question, one answer, small in XCom or large in S3."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_sm_git import PredictOperator
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.local.sagemaker_requests import BUCKET, client, put, unique


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


def predict(airflow: Runner, **options: Any) -> Run:
    with airflow.dag() as dag:
        PredictOperator(task_id="predict", **options)
    return airflow.run(dag)


def read(server: LocalSageMaker, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return client(server, "s3").get_object(Bucket=bucket, Key=key)["Body"].read()


@pytest.mark.parametrize(
    ("data", "content_type", "sent"),
    [
        ({"a": [1, None]}, "application/json", '{"a": [1, null]}'),
        ('{"a": 1}', "application/json", '{"a": 1}'),
        ([[1, "x,y"], [2, "z"]], "text/csv", '1,"x,y"\n2,z\n'),
        ([{"a": 1}, 2], "application/jsonlines", '{"a": 1}\n2\n'),
        ("as it is", "text/plain", "as it is"),
    ],
)
def test_data_is_sent_in_the_form_of_its_content_type(
    airflow: Runner, echo: str, data: Any, content_type: str, sent: str
) -> None:
    run = predict(airflow, endpoint=echo, data=data, content_type=content_type)
    record = run.xcom("predict")
    assert run.state == "success", run.errors
    assert (record["body"]["body"], record["body"]["type"]) == (sent, content_type)
    assert record | {"body": None} == {
        "schema": 1,
        "endpoint_name": echo,
        "variant": "AllTraffic",
        "content_type": "application/json",
        "body": None,
        "s3_uri": None,
    }


def test_data_may_come_from_an_object(airflow: Runner, server: LocalSageMaker, echo: str) -> None:
    run = predict(airflow, endpoint=echo, data_s3_uri=put(server, "from S3"), content_type="text/plain")
    assert run.xcom("predict")["body"]["body"] == "from S3"
    run = predict(airflow, endpoint=echo, data_s3_uri=put(server, "x"), data="y")
    assert "data_s3_uri" in str(run.errors["predict"])
    assert "Give one of the two." in str(run.errors["predict"])


@pytest.mark.parametrize("uri", [f"s3://{BUCKET}/no/such/object", f"s3://{BUCKET}", "payload.json"])
def test_an_object_that_is_not_there_is_not_taken_for_an_endpoint_that_is_gone(
    airflow: Runner, server: LocalSageMaker, echo: str, uri: str
) -> None:
    asked = len(server.requests())
    run = predict(airflow, endpoint=echo, data_s3_uri=uri)
    assert f"data_s3_uri={uri!r}: " in str(run.errors["predict"])
    assert "InvokeEndpoint" not in steps.actions(server, asked)


def test_a_large_answer_goes_to_s3_and_only_its_address_into_the_xcom(
    airflow: Runner, server: LocalSageMaker, echo: str
) -> None:
    prefix = f"s3://{BUCKET}/{unique('answers')}"
    run = predict(airflow, endpoint=echo, data="0123456789", max_xcom_bytes=20, s3_uri_prefix=prefix)
    record = run.xcom("predict")
    assert record["body"] is None
    assert record["s3_uri"].startswith(f"{prefix}/predictions/")
    assert json.loads(read(server, record["s3_uri"]))["body"] == "0123456789"


def test_an_answer_goes_where_it_is_wanted(airflow: Runner, server: LocalSageMaker, echo: str) -> None:
    prefix = f"s3://{BUCKET}/{unique('answers')}/"
    record = predict(airflow, endpoint=echo, data="x", output_s3_uri=prefix).xcom("predict")
    assert record["s3_uri"].startswith(prefix)
    assert json.loads(read(server, record["s3_uri"]))["body"] == "x"


def test_an_endpoint_that_is_gone_is_named_with_what_to_clear(airflow: Runner) -> None:
    asked = len(airflow.sagemaker.requests())
    run = predict(airflow, endpoint="no-such-endpoint", data="x", retries=2)
    assert run.state == "failed"
    assert steps.actions(airflow.sagemaker, asked).count("InvokeEndpoint") == 1, "no retry can help"
    assert "There is no endpoint 'no-such-endpoint'" in str(run.errors["predict"])
    assert "clear the deploy task together with this one" in str(run.errors["predict"])


def test_a_template_can_name_the_endpoint_and_the_data(airflow: Runner, echo: str) -> None:
    with airflow.dag(params={"endpoint": echo, "seed": 1}) as dag:
        PredictOperator(task_id="predict", endpoint="{{ params.endpoint }}", data='{"seed": {{ params.seed }}}')
    run = airflow.run(dag, {"seed": 7})
    assert json.loads(run.xcom("predict")["body"]["body"]) == {"seed": 7}


def test_what_cannot_be_written_in_the_content_type_is_not_sent(
    airflow: Runner, server: LocalSageMaker, echo: str
) -> None:
    asked = len(server.requests())
    run = predict(airflow, endpoint=echo, data={"a": 1}, content_type="application/x-npy")
    assert "content_type='application/x-npy': cannot be written from a dict" in str(run.errors["predict"])
    assert "InvokeEndpoint" not in steps.actions(server, asked)
