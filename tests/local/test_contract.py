"""What a script is started with. ``test_peers.py`` compares the same with sagemaker-training itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_sm_git.local import contract


def request(**more: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": "job-1",
        "HyperParameters": {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": '"s3://b/s.tar.gz"'},
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **more,
    }


@pytest.mark.parametrize(
    ("encoded", "arguments"),
    [
        ({"epochs": "3"}, ["--epochs", "3"]),
        ({"b": "1", "a": "2"}, ["-a", "2", "-b", "1"]),
        ({"on": "true", "off": "false"}, ["--off", "False", "--on", "True"]),
        ({"nothing": "null"}, ["--nothing", ""]),
        ({"list": '[1, "x"]'}, ["--list", "[1, 'x']"]),
        ({"dict": '{"k": 1, "j": [2]}'}, ["--dict", "j=[2],k=1"]),
        ({"text": '"quoted"', "plain": "un quoted"}, ["--plain", "un quoted", "--text", "quoted"]),
        ({"float": "1e3"}, ["--float", "1000.0"]),
    ],
)
def test_hyperparameters_become_arguments(encoded: dict[str, str], arguments: list[str]) -> None:
    assert contract.arguments(contract.decode(encoded)) == arguments


def test_hyperparameters_for_the_container_do_not_reach_the_script() -> None:
    script, settings = contract.split({"sagemaker_region": '"r"', "sagemaker_mpi_enabled": "true", "lr": "0.1"})
    assert script == {"lr": 0.1}
    assert settings == {"sagemaker_region": "r", "sagemaker_mpi_enabled": True}


def test_variables_name_channels_and_hyperparameters() -> None:
    channels = [
        {"ChannelName": "train"},
        {"ChannelName": "my-test", "ContentType": "text/csv", "InputMode": "FastFile"},
    ]
    hyperparameters = {**request()["HyperParameters"], "batch-size": "5"}
    found = contract.variables(
        request(InputDataConfig=channels, HyperParameters=hyperparameters), contract.Machine(7, 1)
    )
    assert found["SM_CHANNELS"] == '["my-test","train"]'
    assert found["SM_CHANNEL_MY-TEST"] == "/opt/ml/input/data/my-test"
    assert found["SM_HP_BATCH-SIZE"] == "5"
    assert found["SM_USER_ARGS"] == '["--batch-size","5"]'
    assert (found["SM_NUM_CPUS"], found["SM_NUM_GPUS"]) == ("7", "1")
    assert json.loads(found["SM_INPUT_DATA_CONFIG"])["my-test"]["TrainingInputMode"] == "FastFile"
    assert json.loads(found["SM_TRAINING_ENV"])["job_name"] == "job-1"


def test_configuration_files_hold_what_the_container_reads() -> None:
    files = contract.config_files(request(InputDataConfig=[{"ChannelName": "c", "ContentType": "text/csv"}]))
    assert files["hyperparameters.json"]["sagemaker_program"] == '"train.py"'
    assert files["inputdataconfig.json"]["c"] == {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
        "ContentType": "text/csv",
    }
    assert files["resourceconfig.json"]["hosts"] == ["algo-1"]
    assert files["resourceconfig.json"]["current_instance_type"] == "ml.m5.large"


def test_the_first_of_several_instance_groups_is_the_one_that_runs() -> None:
    groups = [{"InstanceType": "ml.c5.xlarge", "InstanceGroupName": "a"}, {"InstanceType": "ml.p3.2xlarge"}]
    files = contract.config_files(request(ResourceConfig={"InstanceGroups": groups}))
    assert files["resourceconfig.json"]["current_instance_type"] == "ml.c5.xlarge"


def test_the_program_may_be_named_by_a_variable_as_the_toolkit_reads_it() -> None:
    place = contract.source(request(Environment={"SAGEMAKER_PROGRAM": "other.py"}))
    assert place == contract.Source("other.py", "s3://b/s.tar.gz")


def test_a_job_without_a_script_is_refused_by_the_name_of_its_image() -> None:
    with pytest.raises(contract.ContractError, match=r"image would have to be told which script.*'sagemaker_program'"):
        contract.source(request(HyperParameters={"k": "10"}))


@pytest.mark.parametrize(
    "name", ["../train.py", "/train.py", "-c", "a b.py", "a;b.py", "a/../b.py", "./a.py", "a//b.py"]
)
def test_an_entry_point_that_the_container_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(contract.ContractError, match="must be a path inside"):
        contract.check_entry_point(name)


@pytest.mark.parametrize(
    ("entry_point", "top_level", "command"),
    [
        ("train.py", ["train.py"], ["python", "--", "train.py", "--a", "it's"]),
        ("train.py", ["train.py", "setup.py"], ["python", "-m", "train", "--a", "it's"]),
        ("run.sh", ["run.sh", "setup.py"], ["/bin/sh", "-c", """./run.sh --a 'it'"'"'s'"""]),
        ("program", ["program"], ["/bin/sh", "-c", """./program --a 'it'"'"'s'"""]),
    ],
)
def test_the_kind_of_entry_point_decides_the_command(
    entry_point: str, top_level: list[str], command: list[str]
) -> None:
    assert contract.command(entry_point, ["--a", "it's"], top_level=top_level, python="python") == command
