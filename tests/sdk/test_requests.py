"""Our requests and those that the SageMaker Python SDK 2.257 sends for the same estimator."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest

from airflow_sm_git.core.deployment import DeploySpec, deploy_requests
from airflow_sm_git.core.names import make_tags
from airflow_sm_git.core.training import TrainSpec, training_request
from tests.sdk.cases import CASES, REGION, Case
from tests.sdk.recorder import Recorder

# The first of them may have to install the SDK.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ABSENT, ANY = "(absent)", "(any value)"


@dataclasses.dataclass(frozen=True)
class Difference:
    """One place where the requests differ.

    :param path: pattern of the place: operation, then keys, with dots between.
    :param sdk: what the SDK sends there.
    :param ours: what we send there.
    :param only: the one case it belongs to.
    """

    path: str
    sdk: Any
    ours: Any
    reason: str
    only: str = "*"

    def explains(self, case: str, path: str, sdk: Any, ours: Any) -> bool:
        """Whether this is that difference."""
        place = fnmatchcase(path, self.path) and fnmatchcase(case, self.only)
        return place and _agrees(self.sdk, sdk) and _agrees(self.ours, ours)


def _agrees(listed: Any, found: Any) -> bool:
    return bool(found != ABSENT if listed == ANY else found == listed)


_PROVENANCE = "the container may tell which code it runs, and `trace` finds it"
_CONTENT_NAME = "a model and a configuration are named after their content, so that a second deploy finds them"
_UNASKED = "an upload to the user's bucket that nobody asked for; `config_overrides` asks for it"
DIFFERENCES = [
    Difference("CreateTrainingJob.Environment.SM_GIT_*", ABSENT, ANY, _PROVENANCE),
    Difference("CreateModel.PrimaryContainer.Environment.SM_GIT_*", ABSENT, ANY, _PROVENANCE),
    Difference("*.Tags.sm-git:commit", ABSENT, ANY, _PROVENANCE),
    Difference(
        "CreateTrainingJob.AlgorithmSpecification.EnableSageMakerMetricsTimeSeries",
        True,
        ABSENT,
        "the SDK derives it from framework and version, which an image's URI does not tell; SageMaker turns it on by "
        "itself for its own images and wherever there are metric definitions (API reference, AlgorithmSpecification)",
    ),
    Difference("CreateTrainingJob.DebugHookConfig.*", ANY, ABSENT, f"debugger tensors: {_UNASKED}"),
    Difference("CreateTrainingJob.ProfilerConfig.*", ANY, ABSENT, f"profiles: {_UNASKED}"),
    Difference("CreateModel.ModelName", ANY, ANY, _CONTENT_NAME),
    Difference("CreateEndpointConfig.EndpointConfigName", ANY, ANY, _CONTENT_NAME),
    Difference("CreateEndpointConfig.ProductionVariants.0.ModelName", ANY, ANY, _CONTENT_NAME),
    Difference("CreateEndpoint.EndpointConfigName", ANY, ANY, _CONTENT_NAME),
    Difference(
        "CreateModel.PrimaryContainer.Environment.SAGEMAKER_PROGRAM",
        "train.py",
        "deep/er/train.py",
        "the SDK repacks the whole directory but names the script without its folder, where it is not",
        only="nested-entry-point",
    ),
]
NOT_COMPARED = {
    "max_pending": "the SDK's estimator has no such argument",
    "initial_weight": "the SDK's deploy has no such argument; it sends 1",
    "variant_name": "the SDK's deploy has no such argument; it sends AllTraffic",
    "model_version": "it enters no request but the model's name",
    "variants": "the SDK's deploy makes one variant",
    "deployment_config": "the SDK's deploy updates nothing",
}
"""Fields of our specs that no case gives, and why."""


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    """Each case."""
    found: Case = request.param
    return found


def test_requests_equal_the_sdks_but_for_listed_differences(case: Case, recorded: Recorder) -> None:
    found = _found(case, recorded.requests[case.name])
    unlisted = [one for one in found if not any(each.explains(case.name, *one) for each in DIFFERENCES)]
    assert not unlisted, "\n".join(f"{path}: the SDK sends {sdk!r}, we send {ours!r}" for path, sdk, ours in unlisted)


def test_every_listed_difference_is_there(recorded: Recorder) -> None:
    found = [(case.name, *one) for case in CASES for one in _found(case, recorded.requests[case.name])]
    assert [each.path for each in DIFFERENCES if not any(each.explains(*one) for one in found)] == []


def test_every_field_of_the_specs_is_compared(recorded: Recorder) -> None:
    given: set[str] = set()
    for case in CASES:
        for spec in _specs(case, recorded.requests[case.name]):
            given |= {f.name for f in dataclasses.fields(spec) if getattr(spec, f.name) != _default(f)}
    fields = {f.name for kind in (TrainSpec, DeploySpec) for f in dataclasses.fields(kind)}
    assert fields - given == set(NOT_COMPARED)


def test_the_sdk_needs_nothing_that_the_recorder_does_not_know(recorded: Recorder) -> None:
    assert recorded.unexpected == []
    deployed = ["CreateTrainingJob", "CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    sent = {case.name: list(recorded.requests[case.name]) for case in CASES}
    assert sent == {case.name: deployed if case.deploy is not None else deployed[:1] for case in CASES}


def _found(case: Case, sdk: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """All differences, listed or not."""
    theirs, ours = _flat(sdk), _flat(_our_requests(case, sdk))
    paths = {**theirs, **ours}
    pairs = [(path, theirs.get(path, ABSENT), ours.get(path, ABSENT)) for path in paths]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _our_requests(case: Case, sdk: Mapping[str, Any]) -> dict[str, Any]:
    train, *deploy = _specs(case, sdk)
    assert isinstance(train, TrainSpec)
    name, ours = sdk["CreateTrainingJob"]["TrainingJobName"], make_tags({"commit": "c" * 40})
    requests = {"CreateTrainingJob": training_request(train, job_name=name, tags=_tags(case.estimator) + ours)}
    for spec in deploy:
        assert isinstance(spec, DeploySpec)
        made = deploy_requests(spec, _tags(case.deploy or {}) + ours)
        requests |= {"CreateModel": made.model, "CreateEndpointConfig": made.endpoint_config}
        requests["CreateEndpoint"] = made.endpoint
    return requests


def _specs(case: Case, sdk: Mapping[str, Any]) -> list[TrainSpec | DeploySpec]:
    job = sdk["CreateTrainingJob"]
    package = case.package(_code_uri(job))
    specs: list[TrainSpec | DeploySpec] = [case.train_spec(package, job["OutputDataConfig"]["S3OutputPath"])]
    if case.deploy is not None:
        hosted = package and {**package, "entry_point": case.deploy.get("entry_point", package["entry_point"])}
        model_data = sdk["CreateModel"]["PrimaryContainer"]["ModelDataUrl"]
        specs.append(case.deploy_spec(hosted, model_data, sdk["CreateEndpoint"]["EndpointName"]))
    return specs


def _code_uri(job: Mapping[str, Any]) -> str:
    """Where the SDK put the code."""
    code = [channel for channel in job.get("InputDataConfig", []) if channel["ChannelName"] == "code"]
    if code:
        return str(code[0]["DataSource"]["S3DataSource"]["S3Uri"])
    return str(json.loads(job["HyperParameters"].get("sagemaker_submit_directory", '""')))


def _tags(arguments: Mapping[str, Any]) -> list[dict[str, str]]:
    return [dict(tag) for tag in arguments.get("tags", [])]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every value by its path. Empty dicts and lists say nothing; tags are a dict."""
    if isinstance(value, list):
        tags = bool(value) and all(isinstance(item, dict) and item.keys() == {"Key", "Value"} for item in value)
        pairs = [(i["Key"], i["Value"]) for i in value] if tags else [(str(n), item) for n, item in enumerate(value)]
        assert len(pairs) == len(dict(pairs)), f"a tag comes twice in {value}"
        value = dict(pairs)
    if not isinstance(value, dict):
        return {path: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= _flat(item, f"{path}.{key}" if path else key)
    return found


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def test_the_region_of_the_cases_is_the_sdks(recorded: Recorder) -> None:
    job = recorded.requests[CASES[0].name]["CreateTrainingJob"]
    assert job["HyperParameters"]["sagemaker_region"] == json.dumps(REGION)
