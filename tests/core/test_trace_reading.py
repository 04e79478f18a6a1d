"""Names, ARNs, URIs, tags and answers of SageMaker, read for what they tell about where something came from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_sm_git.core import trace_reading as reading
from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.names import make_tags, read_tags
from airflow_sm_git.core.training import TrainSpec, training_request
from tests.core.specs import IMAGE, PACKAGE, ROLE


def tags(**values: str) -> dict[str, str]:
    """Tags as they come back from AWS."""
    return read_tags(make_tags(values))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("endpoint", "Endpoint"),
        ("endpoint-config", "EndpointConfig"),
        ("model", "Model"),
        ("training-job", "TrainingJob"),
    ],
)
@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_an_arn_tells_kind_name_and_region(kind: str, name: str, partition: str) -> None:
    arn = f"arn:{partition}:sagemaker:eu-central-1:123456789012:{kind}/a-b"
    assert reading.read_target(arn) == reading.Target("a-b", name, "eu-central-1", arn=arn)


def test_a_name_and_a_uri_are_told_apart() -> None:
    assert reading.read_target("nightly-1") == reading.Target("nightly-1")
    assert reading.read_target("s3://bucket/a b/c") == reading.Target(uri="s3://bucket/a b/c")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-a",
        "a_b",
        "a/b",
        "x" * 64,
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3:bucket",
        "https://example.com/repository",
        "arn:aws:iam::123456789012:role/a",
        "arn:aws:sagemaker:eu-central-1:123456789012:processing-job/a",
        "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/",
        "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/a/b",
        "arn:aws:sagemaker:eu-central-1::endpoint/a",
    ],
)
def test_what_can_be_no_target_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match=r"^target="):
        reading.read_target(text)


def test_what_tags_and_environment_say_of_the_code_is_said_once() -> None:
    environment = {"SM_GIT_COMMIT": "c", "SM_GIT_REPO": "r", "OTHER": "x"}
    assert reading.code(tags(commit="c", dag="d"), environment) == ({"commit": "c", "repo": "r"}, [])
    assert reading.code({}, {}) == ({}, [])


def test_a_tag_that_was_cut_is_completed_by_the_environment_and_is_no_contradiction() -> None:
    long = f"https://example.com/{'ü' * 90}.git"
    cut = tags(repo=long)
    assert cut["repo"] != long
    assert reading.code(cut, {"SM_GIT_REPO": long}) == ({"repo": long}, [])
    assert reading.says(cut["repo"], long)
    assert not reading.says(cut["repo"], f"{long}x")


def test_a_contradiction_is_named_and_the_tag_stands() -> None:
    facts, problems = reading.code(tags(commit="tagged"), {"SM_GIT_COMMIT": "told"})
    assert facts == {"commit": "tagged"}
    assert problems == ["its tag says commit tagged, its environment told"]


def test_a_variable_that_may_have_been_cut_contradicts_nothing() -> None:
    long = "https://example.com/" + "x" * 600
    assert reading.code(tags(repo=long), {"SM_GIT_REPO": long[:512]})[1] == []


def test_the_package_of_a_job_is_what_it_was_submitted_with() -> None:
    def submitted(**options: Any) -> dict[str, Any]:
        spec = TrainSpec(image_uri=IMAGE, role=ROLE, region="us-east-1", output_path="s3://bucket/out", **options)
        return training_request(spec, job_name="j", tags=[])

    for isolated in (False, True):
        request = submitted(package=PACKAGE, enable_network_isolation=isolated)
        assert reading.training_package(request) == PACKAGE["s3_uri"]
    assert reading.training_package(submitted(package=None)) is None


@pytest.mark.parametrize(
    "value", ["not json", "7", '"/opt/ml/input/data/code/sourcedir.tar.gz"', "null", '["s3://b/k"]']
)
def test_a_job_whose_code_is_not_in_s3_has_no_package(value: str) -> None:
    assert reading.training_package({"HyperParameters": {"sagemaker_submit_directory": value}}) is None


def test_a_channel_called_code_is_no_package_unless_the_script_is_looked_for_there() -> None:
    channel = {"ChannelName": "code", "DataSource": {"S3DataSource": {"S3Uri": "s3://b/data"}}}
    assert reading.training_package({"InputDataConfig": [channel]}) is None


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ({"PrimaryContainer": {"ModelDataUrl": "s3://b/m"}}, ["s3://b/m"]),
        ({"PrimaryContainer": {"ModelDataSource": {"S3DataSource": {"S3Uri": "s3://b/p/"}}}}, ["s3://b/p/"]),
        ({"Containers": [{"ModelDataUrl": "s3://b/1"}, {"Image": "i"}]}, ["s3://b/1", None]),
        ({}, []),
    ],
)
def test_a_model_serves_what_its_containers_say(model: dict[str, Any], data: list[str | None]) -> None:
    assert [reading.container_data(each) for each in reading.containers(model)] == data


@pytest.mark.parametrize(
    ("answer", "notes"),
    [
        ({"EndpointStatus": "InService"}, []),
        (
            {"EndpointStatus": "Creating", "PendingDeploymentSummary": {"EndpointConfigName": "c"}},
            ["nothing is live yet; what follows is what it is being created with"],
        ),
        (
            {"EndpointStatus": "Failed", "FailureReason": "why"},
            ["nothing is live; what follows is what it failed with: why"],
        ),
        (
            {"EndpointStatus": "InService", "FailureReason": "why"},
            ["its last change failed; what follows is what is live: why"],
        ),
        (
            {"EndpointStatus": "Updating", "PendingDeploymentSummary": {"EndpointConfigName": "c"}},
            ["it is being moved to c; what follows is what is live"],
        ),
        (
            {"EndpointStatus": "OutOfService"},
            ["it answers no requests; what follows is what it names as its configuration: no reason was given"],
        ),
        (
            {"EndpointStatus": "UpdateRollbackFailed", "FailureReason": "why"},
            [
                "its last change failed, and so did the way back; it may serve a mix of the old and the new, and what "
                "follows is what it names as its configuration: why"
            ],
        ),
    ],
)
def test_what_an_endpoint_names_is_said_to_be_live_or_not(answer: dict[str, Any], notes: list[str]) -> None:
    assert reading.endpoint_notes(answer) == notes


def test_hosting_code_inside_the_archive_is_no_package_of_its_own() -> None:
    inside, beside = ({"Environment": {"SAGEMAKER_SUBMIT_DIRECTORY": d}} for d in ("/opt/ml/model/code", "s3://b/k"))
    assert [reading.hosting_package(each) for each in (inside, beside, {})] == [None, "s3://b/k", None]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://b/sm-git/output/job-1/output/model.tar.gz", "job-1"),
        ("s3://b/job-1/output/model/", "job-1"),
        ("s3://b/job-1/output/model", "job-1"),
        ("s3://b/models/abc/model.tar.gz", None),
        ("s3://b/job-1/output/model.tar.gz/more", None),
        ("s3://b/job-1/output/output.tar.gz", None),
        ("s3://b/no_job/output/model.tar.gz", None),
        (f"s3://b/{'x' * 64}/output/model.tar.gz", None),
    ],
)
def test_an_artefact_is_named_after_its_job(uri: str, name: str | None) -> None:
    assert reading.job_of(uri) == name


def test_packages_and_manifests_tell_digest_and_commit_by_their_keys() -> None:
    base = f"s3://b/sm-git/packages/{'d' * 64}"
    first, second = (f"{base}/manifest-{commit * 40}-abcdefgh2345.json" for commit in "ab")
    long = f"{base}/manifest-{'c' * 64}-abcdefgh2345.json"
    others = [f"{base}/sourcedir.tar.gz", f"{base}/manifest-x.json", f"{base}/manifest-{'a' * 41}-abcdefgh2345.json"]
    assert reading.digest_in(first) == reading.digest_in(others[0]) == "d" * 64
    assert reading.digest_in("s3://b/sourcedir.tar.gz") is None
    assert reading.manifests_by_commit([first, *others, second, long]) == {
        "a" * 40: [first],
        "b" * 40: [second],
        "c" * 64: [long],
    }


def test_who_made_something_is_read_from_its_tags() -> None:
    found = reading.ownership(tags(**{"dag": "d=é", "lease-until": "2030-01-01T00:00:00Z", "commit": "c"}))
    assert found == {"dag": "d=é", "lease_until": "2030-01-01T00:00:00Z"}
    assert json.dumps(found)
