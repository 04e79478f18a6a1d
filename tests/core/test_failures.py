"""What SageMaker says about a failed job, and what a user is told to do about it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_sm_git.core import errors
from airflow_sm_git.core.failures import denied_remedy, exit_code, quota_frees, training_failure, was_spot

SAID: list[tuple[str, type[errors.TrainingFailed], str]] = [
    (
        "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance"
        " type.",
        errors.OutOfCapacity,
        "another instance_type",
    ),
    ("ClientError: Training job was interrupted because spot capacity was lost", errors.SpotInterrupted, "checkpoint"),
    (
        "ClientError: SageMaker was unable to assume the role 'arn:aws:iam::123456789012:role/SageMakerRole'",
        errors.RoleDenied,
        "trust policy",
    ),
    (
        "ClientError: Cannot pull algorithm container. Either the image does not exist or its permissions are"
        " incorrect.",
        errors.ImageMissing,
        "image_uri",
    ),
    (
        'ClientError: Data download failed:No S3 objects found under S3 URL "s3://b/k" given in input data source',
        errors.DataMissing,
        "inputs",
    ),
    ("ClientError: Data download failed:AccessDenied (403): Access Denied", errors.RoleDenied, "s3:GetObject"),
    ("InternalServerError: We encountered an internal error. Please try again.", errors.TrainingFailed, "SageMaker's"),
    (
        'AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "x", exit code: 1',
        errors.TrainingFailed,
        "script",
    ),
    (
        'AlgorithmError: ExecuteUserScriptError:\nExitCode 137\nExtraInfo "OutOfMemory: …"',
        errors.TrainingFailed,
        "memory",
    ),
    ("", errors.TrainingFailed, "script"),
]


@pytest.mark.parametrize(("reason", "kind", "remedy"), SAID)
def test_each_cause_is_told_apart_and_has_its_own_remedy(
    reason: str, kind: type[errors.TrainingFailed], remedy: str
) -> None:
    found, told = training_failure({"FailureReason": reason})
    assert found is kind
    assert remedy in told


@pytest.mark.parametrize("word", ["403", "AccessDenied", "NoSuchKey", "spot interruption", "insufficient capacity"])
def test_a_scripts_own_words_are_taken_for_no_other_cause(word: str) -> None:
    reason = f'AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "ValueError: {word}", exit code: 1'
    assert training_failure({"FailureReason": reason})[0] is errors.TrainingFailed


def test_only_what_time_may_mend_is_worth_a_retry() -> None:
    kinds = {training_failure({"FailureReason": reason})[0] for reason, _, _ in SAID}
    assert {kind.__name__ for kind in kinds if kind.retryable} == {"OutOfCapacity", "SpotInterrupted", "TrainingFailed"}


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("AlgorithmError: , exit code: 1", 1),
        ("ExecuteUserScriptError:\nExitCode 3\nErrorMessage, exit code: 1", 3),
        ("AlgorithmError: Exit Code: 7", 7),
        ("CapacityError: none", None),
    ],
)
def test_the_exit_code_is_the_scripts_own(reason: str, code: int | None) -> None:
    assert exit_code(reason) == code


def test_a_spot_job_that_waited_too_long_after_an_interruption_lost_its_capacity() -> None:
    job: dict[str, Any] = {"EnableManagedSpotTraining": True, "SecondaryStatus": "MaxWaitTimeExceeded"}
    assert was_spot({**job, "SecondaryStatusTransitions": [{"Status": "Interrupted"}]})
    assert not was_spot({**job, "SecondaryStatusTransitions": [{"Status": "Training"}]})
    assert not was_spot({"SecondaryStatus": "MaxWaitTimeExceeded"})


def test_a_denial_names_the_action_to_allow_and_where() -> None:
    said = (
        "User: arn:aws:sts::123456789012:assumed-role/Airflow/x is not authorized to perform: iam:PassRole on resource:"
        " arn:aws:iam::123456789012:role/SageMakerRole because no identity-based policy allows the iam:PassRole action"
    )
    told = denied_remedy(said, "CreateTrainingJob")
    assert told == "Allow the AWS connection's identity iam:PassRole on arn:aws:iam::123456789012:role/SageMakerRole."
    assert "allow GetObject" in denied_remedy("Access Denied", "GetObject")


@pytest.mark.parametrize(("limit", "used", "more", "frees"), [(0, 0, 1, False), (2, 2, 1, True), (1, 0, 2, False)])
def test_a_quota_is_waited_for_only_if_it_would_do(limit: int, used: int, more: int, frees: bool) -> None:
    said = (
        f"The account-level service limit 'ml.p3.2xlarge for training job usage' is {limit} Instances, with current"
        f" utilization of {used} Instances and a request delta of {more} Instances. Please contact AWS support."
    )
    assert quota_frees(said) is frees
