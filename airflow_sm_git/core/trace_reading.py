"""What tags, environments, URIs and answers of SageMaker tell about where something came from.

Sources: SageMaker API reference, OutputDataConfig (a job's artefact lies at
``<S3OutputPath>/<job>/output/model.tar.gz``, and under ``…/output/model/`` where it is not compressed),
DescribeEndpoint (what its statuses mean); Service Authorization Reference, SageMaker AI (ARN forms).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_git.core.checks import check_s3_object
from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.names import check_name, is_name, tag_value

ARN_KINDS = {
    "endpoint": "Endpoint",
    "endpoint-config": "EndpointConfig",
    "model": "Model",
    "training-job": "TrainingJob",
}
KINDS = tuple(ARN_KINDS.values())  # in the order in which a name is looked up
_ARN = re.compile(r"arn:aws[a-z-]*:sagemaker:([a-z0-9-]+):(\d{12}):([a-z-]+)/(.+)")
_MANIFEST = re.compile(r"manifest-([0-9a-f]{40}|[0-9a-f]{64})-[a-z2-7]{12}\.json")
_PACKAGE = re.compile(r"(.*/)packages/([0-9a-f]{64})/")
_JOB = re.compile(r".*/([^/]+)/output/model(?:\.tar\.gz|/)?")
_ENVIRONMENT_LIMIT = 512  # what core.training cuts a value of the environment to
CODE = ("commit", "tree", "digest", "repo", "package")
_OWNERSHIP = ("dag", "run", "namespace", "owner", "lease-until")


@dataclass(frozen=True)
class Target:
    """What a trace begins with: a resource of SageMaker, or an object.

    :param kind: None where only a name was given.
    :param region: None where it is not given.
    """

    name: str = ""
    kind: str | None = None
    region: str | None = None
    arn: str | None = None
    uri: str | None = None


def read_target(text: str) -> Target:
    """Tell a name from an ARN and from an S3 URI.

    :raises BadParameter: it is none of them, or the ARN of something else.
    """
    if text.startswith("s3://"):
        return Target(uri=check_s3_object("target", text))
    if not text.startswith("arn:"):
        return Target(name=check_name("target", text))
    match = _ARN.fullmatch(text)
    if match is None or match.group(3) not in ARN_KINDS:
        remedy = f"An ARN of SageMaker's can be traced: {', '.join(ARN_KINDS)}."
        raise BadParameter("target", text, "is the ARN of nothing that has a commit", remedy)
    return Target(check_name("target", match.group(4)), ARN_KINDS[match.group(3)], match.group(1), arn=text)


def ownership(tags: Mapping[str, str]) -> dict[str, str]:
    """Who made a resource, as facts.

    :param tags: our own, as `core.names.read_tags` gives them.
    """
    return {key.replace("-", "_"): tags[key] for key in _OWNERSHIP if key in tags}


def code(tags: Mapping[str, str], environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Which code a resource says that it runs, as facts, and where it contradicts itself.

    A tag may be cut where it is long; then the environment has more of it.

    :param environment: of the container; its ``SM_GIT_*`` are read.
    """
    facts, problems = {}, []
    for key in CODE:
        tag, variable = tags.get(key), environment.get(f"SM_GIT_{key.upper()}")
        if variable is not None and len(variable) >= _ENVIRONMENT_LIMIT:
            variable = None  # perhaps cut
        if tag is not None and variable is not None and not says(tag, variable):
            problems.append(f"its tag says {key} {tag}, its environment {variable}")
            variable = None
        value = variable or tag
        if value is not None:
            facts[key] = value
    return facts, problems


def says(tag: str, value: str) -> bool:
    """Whether a tag, which may have been cut, was written of a value."""
    return tag_value(tag) == tag_value(value)


def training_package(job: Mapping[str, Any]) -> str | None:
    """The S3 URI of the code that a training job ran, by what it was submitted with."""
    try:
        directory = json.loads(job.get("HyperParameters", {}).get("sagemaker_submit_directory", "null"))
    except ValueError:
        return None
    if isinstance(directory, str) and directory.startswith("s3://"):
        return directory
    channels = {each["ChannelName"]: each for each in job.get("InputDataConfig", [])}
    source = channels.get("code", {}).get("DataSource", {}).get("S3DataSource", {}) if directory else {}
    uri: str | None = source.get("S3Uri")
    return uri


def endpoint_notes(endpoint: Mapping[str, Any]) -> list[str]:
    """How what an endpoint names as its configuration relates to what is live.

    :param endpoint: DescribeEndpoint's answer.
    """
    notes = []
    status, reason = endpoint["EndpointStatus"], endpoint.get("FailureReason", "no reason was given")
    pending = endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
    if status == "Creating":
        notes.append("nothing is live yet; what follows is what it is being created with")
    elif status == "Failed":
        notes.append(f"nothing is live; what follows is what it failed with: {reason}")
    elif status == "OutOfService":
        notes.append(f"it answers no requests; what follows is what it names as its configuration: {reason}")
    elif status == "UpdateRollbackFailed":
        notes.append(
            "its last change failed, and so did the way back; it may serve a mix of the old and the new, and what"
            f" follows is what it names as its configuration: {reason}"
        )
    elif "FailureReason" in endpoint:
        notes.append(f"its last change failed; what follows is what is live: {reason}")
    if pending and status != "Creating":
        notes.append(f"it is being moved to {pending}; what follows is what is live")
    return notes


def containers(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A model's containers, in their order."""
    primary = model.get("PrimaryContainer")
    return [primary] if primary else list(model.get("Containers", []))


def container_data(container: Mapping[str, Any]) -> str | None:
    """The S3 URI of what a container serves."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    uri: str | None = container.get("ModelDataUrl") or source.get("S3Uri")
    return uri


def hosting_package(container: Mapping[str, Any]) -> str | None:
    """The S3 URI of the code that a container serves with, where it is not inside the model's archive."""
    directory = container.get("Environment", {}).get("SAGEMAKER_SUBMIT_DIRECTORY", "")
    return directory if directory.startswith("s3://") else None


def job_of(uri: str) -> str | None:
    """The name of the training job whose artefact has such a URI; whether it is its artefact, the job tells."""
    match = _JOB.fullmatch(uri)
    return match.group(1) if match and is_name(match.group(1)) else None


def digest_in(uri: str) -> str | None:
    """The digest that the key of a package, or of what lies beside it, is made of."""
    match = _PACKAGE.match(uri)
    return match.group(2) if match else None


def commit_in(uri: str) -> str | None:
    """The commit that the key of a manifest names."""
    match = _MANIFEST.fullmatch(uri.rpartition("/")[2])
    return match.group(1) if match else None


def manifests_by_commit(uris: Iterable[str]) -> dict[str, list[str]]:
    """The manifests among what lies beside a package, by commit."""
    found: dict[str, list[str]] = {}
    for uri in uris:
        commit = commit_in(uri)
        if commit is not None:
            found.setdefault(commit, []).append(uri)
    return found
