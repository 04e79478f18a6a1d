"""The table of SageMaker's refusals: whole, used, and cited."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from botocore.loaders import Loader

from airflow_sm_git.local import control
from airflow_sm_git.local.errors_sagemaker import SAGEMAKER, TRANSITIONS, refuse

SOURCES = Path(control.__file__).parent.glob("*.py")
RAISED = re.compile(r'"((?:\w+\.)?\w+)"')


def test_every_row_has_a_key_of_its_own_and_says_where_it_is_from() -> None:
    keys = [entry.key for entry in SAGEMAKER]
    assert len(set(keys)) == len(keys)
    assert all(entry.source.strip() for entry in SAGEMAKER)
    assert all(transition.source.strip() for transition in TRANSITIONS)


def test_every_row_is_raised_somewhere() -> None:
    words = {
        word for path in SOURCES if path.name != "errors_sagemaker.py" for word in RAISED.findall(path.read_text())
    }
    assert {entry.key for entry in SAGEMAKER} <= words


def test_codes_that_the_service_model_declares_are_spelled_as_there() -> None:
    shapes = {
        **Loader().load_service_model("sagemaker", "service-2")["shapes"],
        **Loader().load_service_model("sagemaker-runtime", "service-2")["shapes"],
    }
    # What every AWS JSON service may answer, declared or not (SageMaker API reference, Common Errors).
    common = {"ValidationException", "SerializationException"}
    for entry in SAGEMAKER:
        if entry.code in common:
            assert entry.status == 400
            continue
        declared = shapes[entry.code]
        assert declared["exception"]
        assert entry.status == declared.get("error", {}).get("httpStatusCode", 400)


def test_statuses_are_those_of_the_service_model() -> None:
    shapes = Loader().load_service_model("sagemaker", "service-2")["shapes"]
    for transition in TRANSITIONS:
        status, _, secondary = transition.after.partition("/")
        known = shapes["TrainingJobStatus" if transition.kind == "TrainingJob" else "EndpointStatus"]["enum"]
        assert status.split(" with ")[0] in known
        assert not secondary or secondary in shapes["SecondaryStatus"]["enum"]


def test_a_row_without_what_its_text_needs_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        refuse("model.missing")
    with pytest.raises(KeyError):
        refuse("no.such.row")
