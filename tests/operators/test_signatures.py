"""Every parameter of every operator and sensor does something, and a test shows what.

Each class has a table from its parameters to how they show: in the request as the server has it, or in a named test.
A parameter that no table lists fails.
"""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git import (
    DeployOperator,
    EndpointSensor,
    GitCheckoutOperator,
    PackageSourceOperator,
    PredictOperator,
    ReportOperator,
    TeardownOperator,
    TrainingJobSensor,
    TrainOperator,
)
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from airflow_sm_git.operators.base import AwsOperator, SmGitOperator
from airflow_sm_git.sensors.base import StatusSensor
from tests import steps
from tests.airflow_runner import Runner
from tests.local.sagemaker_requests import BUCKET, IMAGE, ROLE, client, unique

TESTS = Path(__file__).parents[1]
HERE = "operators/test_signatures.py::"
TRAINING = "operators/test_train.py::"
DEPLOYING = "operators/test_deploy.py::"
PREDICTING = "operators/test_predict.py::"
CONNECTION = "operators/test_connection.py::"
CHECKOUT = "operators/test_git_checkout.py::"
PACKAGE = "operators/test_package_source.py::"
TEARDOWN = "operators/test_teardown.py::"
REPORT = "operators/test_report.py::"
SENSORS = "sensors/test_sensors.py::"
CHAIN = "test_chain.py::"
PIN = "end_to_end/test_pin.py::"


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


OUT = f"s3://{BUCKET}/signatures"
# For each parameter of TrainOperator a distinctive value, the place where DescribeTrainingJob has it, and what is
# there if it is not the value itself.
TRAIN: dict[str, tuple[Any, ...]] = {
    "image_uri": (f"{IMAGE}-7", "AlgorithmSpecification.TrainingImage"),
    "input_mode": ("FastFile", "AlgorithmSpecification.TrainingInputMode"),
    "metric_definitions": ([{"Name": "m", "Regex": "m=(.*)"}], "AlgorithmSpecification.MetricDefinitions"),
    "role": ("sm-git-local", "RoleArn", ROLE),
    "instance_type": ("ml.c5.9xlarge", "ResourceConfig.InstanceType"),
    "instance_count": (2, "ResourceConfig.InstanceCount"),
    "volume_size": (37, "ResourceConfig.VolumeSizeInGB"),
    "volume_kms_key": ("key-v", "ResourceConfig.VolumeKmsKeyId"),
    "keep_alive_period": (timedelta(minutes=11), "ResourceConfig.KeepAlivePeriodInSeconds", 660),
    "output_path": (f"{OUT}/models", "OutputDataConfig.S3OutputPath"),
    "output_kms_key": ("key-o", "OutputDataConfig.KmsKeyId"),
    "disable_output_compression": (True, "OutputDataConfig.CompressionType", "NONE"),
    "hyperparameters": ({"a": [1]}, "HyperParameters.a", "[1]"),
    "container_log_level": (10, "HyperParameters.sagemaker_container_log_level", "10"),
    "environment": ({"WHO": "me"}, "Environment.WHO", "me"),
    "max_run": (1111, "StoppingCondition.MaxRuntimeInSeconds"),
    "max_wait": (2222, "StoppingCondition.MaxWaitTimeInSeconds"),
    "max_pending": (7777, "StoppingCondition.MaxPendingTimeInSeconds"),
    "max_retry_attempts": (3, "RetryStrategy.MaximumRetryAttempts"),
    "use_spot_instances": (True, "EnableManagedSpotTraining"),
    "checkpoint_s3_uri": (f"{OUT}/checkpoints", "CheckpointConfig.S3Uri"),
    "checkpoint_local_path": ("/opt/ml/here", "CheckpointConfig.LocalPath"),
    "subnets": (["subnet-0a"], "VpcConfig.Subnets"),
    "security_group_ids": (["sg-0b"], "VpcConfig.SecurityGroupIds"),
    "encrypt_inter_container_traffic": (True, "EnableInterContainerTrafficEncryption"),
    "config_overrides": ({"ExperimentConfig": {"TrialName": "t"}}, "ExperimentConfig.TrialName", "t"),
}
TRAIN_ELSEWHERE = {
    "package": TRAINING + "test_a_job_runs_the_package_and_its_record_tells_what_came_of_it",
    "encoding": HERE + "test_plain_hyperparameters_and_network_isolation_show",
    "enable_network_isolation": HERE + "test_plain_hyperparameters_and_network_isolation_show",
    "job_name_prefix": HERE + "test_the_readable_part_of_names_can_be_chosen",
    "inputs": TRAINING + "test_files_of_the_worker_become_a_channel",
    "s3_uri_prefix": HERE + "test_plain_hyperparameters_and_network_isolation_show",
    "tags": TRAINING + "test_a_job_says_in_its_tags_whose_it_is_and_what_it_runs",
    "wait_for_completion": TRAINING + "test_clearing_a_task_whose_job_still_runs_waits_for_that_job",
    "check_interval": CONNECTION + "test_the_check_interval_is_the_time_between_two_looks",
    "wait_timeout": TRAINING + "test_a_job_that_outlasts_the_wait_is_stopped_and_the_error_says_so",
    "print_log": TRAINING + "test_the_log_is_printed_only_if_wanted_but_a_failure_quotes_its_end",
    "deferrable": TRAINING + "test_a_job_runs_the_package_and_its_record_tells_what_came_of_it",
    "cancel_on_kill": TRAINING + "test_a_killed_task_stops_its_job_if_the_task_is_over_and_unless_told_otherwise",
}
# The same for DeployOperator, in what DescribeModel, DescribeEndpointConfig and DescribeEndpoint say.
DEPLOY: dict[str, tuple[Any, ...]] = {
    "image_uri": (f"{IMAGE}-8", "model.PrimaryContainer.Image"),
    "entry_point": ("serve.py", "model.PrimaryContainer.Environment.SAGEMAKER_PROGRAM"),
    "environment": ({"WHO": "you"}, "model.PrimaryContainer.Environment.WHO", "you"),
    "container_log_level": (30, "model.PrimaryContainer.Environment.SAGEMAKER_CONTAINER_LOG_LEVEL", "30"),
    "model_server_workers": (2, "model.PrimaryContainer.Environment.SAGEMAKER_MODEL_SERVER_WORKERS", "2"),
    "role": ("sm-git-local", "model.ExecutionRoleArn", ROLE),
    "enable_network_isolation": (True, "model.EnableNetworkIsolation"),
    "subnets": (["subnet-0c"], "model.VpcConfig.Subnets"),
    "security_group_ids": (["sg-0d"], "model.VpcConfig.SecurityGroupIds"),
    "instance_type": ("ml.c5.2xlarge", "config.ProductionVariants.0.InstanceType"),
    "initial_instance_count": (3, "config.ProductionVariants.0.InitialInstanceCount"),
    "initial_weight": (0.25, "config.ProductionVariants.0.InitialVariantWeight"),
    "variant_name": ("Blue", "config.ProductionVariants.0.VariantName"),
    "volume_size": (19, "config.ProductionVariants.0.VolumeSizeInGB"),
    "model_data_download_timeout": (
        timedelta(minutes=3),
        "config.ProductionVariants.0.ModelDataDownloadTimeoutInSeconds",
        180,
    ),
    "container_startup_health_check_timeout": (
        99,
        "config.ProductionVariants.0.ContainerStartupHealthCheckTimeoutInSeconds",
    ),
    "volume_kms_key": ("key-e", "config.KmsKeyId"),
    "config_overrides": (
        {"CreateEndpointConfig": {"ExecutionRoleArn": ROLE}},
        "config.ExecutionRoleArn",
        ROLE,
    ),
    "tags": ({"team": "words"}, "tags.team", "words"),
}
DEPLOY_ELSEWHERE = {
    "training_job": CHAIN + "test_it_leads_from_a_commit_to_a_prediction_and_back_down",
    "model_data": DEPLOYING + "test_a_standing_endpoint_is_updated_and_its_old_versions_dropped",
    "package": DEPLOYING + "test_without_an_entry_point_the_package_says_what_serves",
    "hosting": DEPLOYING + "test_the_code_lies_in_the_model_archive_or_stays_in_its_own",
    "endpoint_name_prefix": HERE + "test_the_readable_part_of_names_can_be_chosen",
    "s3_uri_prefix": HERE + "test_the_readable_part_of_names_can_be_chosen",
    "endpoint_name": DEPLOYING + "test_a_standing_endpoint_is_updated_and_its_old_versions_dropped",
    "variants": DEPLOYING + "test_two_models_share_the_traffic_of_one_endpoint_by_weight",
    "deployment_config": DEPLOYING + "test_an_update_takes_its_policy_along_and_is_waited_for_to_the_end_of_it",
    "keep_versions": DEPLOYING + "test_a_standing_endpoint_is_updated_and_its_old_versions_dropped",
    "wait_for_completion": DEPLOYING + "test_a_retry_goes_on_where_the_first_try_was_lost",
    "check_interval": CONNECTION + "test_the_check_interval_is_the_time_between_two_looks",
    "wait_timeout": DEPLOYING + "test_an_endpoint_that_does_not_come_up_in_time_fails_the_task",
    "deferrable": DEPLOYING + "test_an_endpoint_of_the_run_serves_the_model_with_the_package",
}
OTHERS: dict[type, dict[str, str]] = {
    SmGitOperator: {},
    AwsOperator: {
        "aws_conn_id": CHAIN + "test_every_parameter_arrives",
        "region_name": CHAIN + "test_every_parameter_arrives",
        "verify": CONNECTION + "test_verify_names_who_vouches_for_the_server",
        "botocore_config": CONNECTION + "test_botocores_own_settings_reach_it",
    },
    GitCheckoutOperator: {
        "repo": CHECKOUT + "test_a_branch_becomes_the_record_of_its_tip",
        "ref": CHECKOUT + "test_repository_and_ref_may_be_templates",
        "git_conn_id": CHECKOUT + "test_a_connection_brings_repository_and_login",
        "git_config": CHECKOUT + "test_git_config_brings_repository_ref_and_login_and_shows_no_secret",
        "as_of": CHECKOUT + "test_a_time_takes_the_last_commit_before_it",
        "paths": CHECKOUT + "test_paths_take_the_last_commit_that_changed_one",
        "repin": PIN + "test_repin_takes_what_the_ref_names_now",
    },
    PackageSourceOperator: {
        "checkout": PACKAGE + "test_the_checkout_may_be_its_json",
        "entry_point": PACKAGE + "test_the_record_tells_of_the_object_and_the_commit",
        "source_dir": PACKAGE + "test_the_record_tells_of_the_object_and_the_commit",
        "submodules": PACKAGE + "test_submodules_are_packaged_where_asked_for",
        "dependencies": PACKAGE + "test_without_a_source_dir_the_script_lies_at_the_root_with_its_dependencies",
        "s3_uri_prefix": PACKAGE + "test_the_record_tells_of_the_object_and_the_commit",
        "git_conn_id": PACKAGE + "test_a_private_repository_is_read_with_the_login_of_either_kind",
        "git_config": PACKAGE + "test_a_private_repository_is_read_with_the_login_of_either_kind",
    },
    TrainOperator: dict.fromkeys(TRAIN, HERE + "test_every_parameter_of_train_shows") | TRAIN_ELSEWHERE,
    DeployOperator: dict.fromkeys(DEPLOY, HERE + "test_every_parameter_of_deploy_shows") | DEPLOY_ELSEWHERE,
    PredictOperator: {
        "endpoint": PREDICTING + "test_a_template_can_name_the_endpoint_and_the_data",
        "data": PREDICTING + "test_data_is_sent_in_the_form_of_its_content_type",
        "data_s3_uri": PREDICTING + "test_data_may_come_from_an_object",
        "content_type": PREDICTING + "test_data_is_sent_in_the_form_of_its_content_type",
        "accept": CONNECTION + "test_every_parameter_of_predict_shows",
        "target_variant": CONNECTION + "test_every_parameter_of_predict_shows",
        "target_model": CONNECTION + "test_every_parameter_of_predict_shows",
        "custom_attributes": CONNECTION + "test_every_parameter_of_predict_shows",
        "inference_id": CONNECTION + "test_every_parameter_of_predict_shows",
        "output_s3_uri": PREDICTING + "test_an_answer_goes_where_it_is_wanted",
        "max_xcom_bytes": PREDICTING + "test_a_large_answer_goes_to_s3_and_only_its_address_into_the_xcom",
        "s3_uri_prefix": PREDICTING + "test_a_large_answer_goes_to_s3_and_only_its_address_into_the_xcom",
    },
    TeardownOperator: {
        "policy": TEARDOWN + "test_always_deletes_after_a_failure_too",
        "s3_uri_prefix": TEARDOWN + "test_it_warns_where_nothing_has_swept_for_a_week_and_not_after_a_sweep",
        "check_interval": CONNECTION + "test_the_check_interval_is_the_time_between_two_looks",
        "wait_timeout": TEARDOWN + "test_an_endpoint_that_cannot_be_deleted_in_time_is_a_red_run",
        "deferrable": TEARDOWN + "test_an_endpoint_that_still_comes_up_is_waited_for_and_then_deleted",
    },
    ReportOperator: {},
    StatusSensor: {
        "aws_conn_id": SENSORS + "test_the_connection_is_the_one_that_is_named",
        "region_name": SENSORS + "test_the_connection_is_the_one_that_is_named",
        "verify": CONNECTION + "test_verify_names_who_vouches_for_the_server",
        "botocore_config": CONNECTION + "test_botocores_own_settings_reach_it",
        "check_interval": CONNECTION + "test_the_check_interval_of_a_sensor_is_the_time_between_two_looks",
        "deferrable": SENSORS + "test_a_sensor_waits_until_the_job_has_completed",
    },
    TrainingJobSensor: {"training_job": SENSORS + "test_a_sensor_waits_until_the_job_has_completed"},
    EndpointSensor: {"endpoint": SENSORS + "test_a_sensor_waits_until_the_endpoint_is_in_service"},
}


def own_parameters(cls: type) -> set[str]:
    """The parameters that a class itself takes."""
    if "__init__" not in cls.__dict__:
        return set()
    taken = inspect.signature(inspect.unwrap(cls.__dict__["__init__"])).parameters.values()
    return {p.name for p in taken if p.kind is inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("cls", OTHERS, ids=lambda cls: cls.__name__)
def test_every_parameter_is_shown_by_a_test(cls: type) -> None:
    assert own_parameters(cls) == set(OTHERS[cls])
    bases = {base for base in cls.__mro__ if base.__module__.startswith("airflow_sm_git.") and own_parameters(base)}
    assert bases <= set(OTHERS), "its bases have parameters too"
    for place in OTHERS[cls].values():
        file, _, name = place.partition("::")
        assert f"def {name}(" in (TESTS / file).read_text(), place


def at(answer: Any, place: str) -> Any:
    """What an answer has at a dotted place."""
    for part in place.split("."):
        answer = answer[int(part)] if part.isdigit() else answer[part]
    return answer


def expected(table: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """What shows for each parameter of a table."""
    return {name: row[2] if len(row) > 2 else row[0] for name, row in table.items()}


def test_every_parameter_of_train_shows(airflow: Runner, server: LocalSageMaker) -> None:
    with airflow.dag() as dag:
        given = {name: row[0] for name, row in TRAIN.items()}
        steps.train(package=steps.package(server), wait_for_completion=False, **given)
    run = airflow.run(dag)
    assert run.state == "success", run.errors
    job = client(server, "sagemaker").describe_training_job(TrainingJobName=run.xcom("train")["job_name"])
    assert {name: at(job, row[1]) for name, row in TRAIN.items()} == expected(TRAIN)


def test_plain_hyperparameters_and_network_isolation_show(airflow: Runner, server: LocalSageMaker) -> None:
    prefix = f"{OUT}/{unique('train')}"
    package = steps.package(server)
    with airflow.dag() as dag:
        options = {"encoding": "plain", "enable_network_isolation": True, "s3_uri_prefix": prefix}
        steps.train(package=package, wait_for_completion=False, hyperparameters={"a": "x y"}, **options)
    job = client(server, "sagemaker").describe_training_job(TrainingJobName=airflow.run(dag).xcom("train")["job_name"])
    (code,) = job["InputDataConfig"]
    assert job["HyperParameters"]["a"] == "x y"
    assert job["EnableNetworkIsolation"] is True
    assert (code["ChannelName"], code["DataSource"]["S3DataSource"]["S3Uri"]) == ("code", package["s3_uri"])
    assert job["OutputDataConfig"]["S3OutputPath"] == f"{prefix}/output/"


def test_every_parameter_of_deploy_shows(airflow: Runner, server: LocalSageMaker) -> None:
    with airflow.dag() as dag:
        given = {name: row[0] for name, row in DEPLOY.items()}
        steps.deploy(package=steps.package(server), model_data=steps.model_data(server), **given)
    run = airflow.run(dag)
    assert run.state == "success", run.errors
    record, sagemaker = run.xcom("deploy"), client(server, "sagemaker")
    tags = sagemaker.list_tags(ResourceArn=record["endpoint_arn"])["Tags"]
    made = {
        "model": sagemaker.describe_model(ModelName=record["model_name"]),
        "config": sagemaker.describe_endpoint_config(EndpointConfigName=record["endpoint_config_name"]),
        "tags": {tag["Key"]: tag["Value"] for tag in tags},
    }
    steps.clean_up(server, record["endpoint_name"])
    assert {name: at(made, row[1]) for name, row in DEPLOY.items()} == expected(DEPLOY)


def test_the_readable_part_of_names_can_be_chosen(airflow: Runner, server: LocalSageMaker) -> None:
    prefix = f"{OUT}/{unique('deploy')}"
    with airflow.dag() as dag:
        package = steps.package(server)
        train = steps.train(package=package, job_name_prefix="some words")
        options = {"endpoint_name_prefix": "other words", "s3_uri_prefix": prefix}
        steps.deploy(package=package, training_job=train.output, **options)
    run = airflow.run(dag)
    assert run.xcom("train")["job_name"].startswith("some-words-"), run.errors
    record = run.xcom("deploy")
    assert record["endpoint_name"].startswith("other-words-"), run.errors
    model = client(server, "sagemaker").describe_model(ModelName=record["model_name"])
    steps.clean_up(server, record["endpoint_name"])
    assert model["PrimaryContainer"]["ModelDataUrl"].startswith(f"{prefix}/")
