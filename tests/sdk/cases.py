"""Trainings and deployments, each written once in the SageMaker SDK's words, and what our specs make of those words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_git.core.deployment import DeploySpec
from airflow_sm_git.core.records import SCHEMA, Package
from airflow_sm_git.core.training import TrainSpec, channel

ROLE = "arn:aws:iam::000000000000:role/train"
KEY = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-00000000000"
REGION = "us-east-1"
FILES = {
    "code/train.py": "print('train')\n",
    "code/serve.py": "print('serve')\n",
    "code/requirements.txt": "tabulate\n",
    "code/deep/er/train.py": "print('deep')\n",
    "code/run.sh": "#!/bin/sh\n",
    "shared/common/text.py": "words = []\n",
    "shared/größe.txt": "1\n",
    "notes.txt": "",
}
"""What the repository holds; run.sh is executable."""
REPO = "https://git.example/repo.git"


@dataclass(frozen=True)
class Case:
    """One training and, perhaps, one deployment.

    :param estimator: arguments of the SDK's estimator.
    :param inputs: what the SDK's ``fit`` takes: None, a URI, or channels as URIs or arguments of ``TrainingInput``.
    :param deploy: arguments of the estimator's ``deploy``; None deploys nothing.
    :param kind: the estimator's class.
    :param hosting: our word for where the hosting code lies, which the SDK decides by framework and version.
    :param overrides: our ``config_overrides`` of the training, for what has no parameter.
    """

    name: str
    estimator: Mapping[str, Any] = field(default_factory=dict)
    inputs: Any = None
    deploy: Mapping[str, Any] | None = None
    kind: str = "PyTorch"
    hosting: str = "repack"
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def sdk(self) -> dict[str, Any]:
        """The case as ``record_program.py`` takes it."""
        deploy = None if self.deploy is None else {**_SERVER, **self.deploy}
        return {
            "name": self.name,
            "class": self.kind,
            "estimator": self.arguments(),
            "inputs": self.inputs,
            "deploy": deploy,
        }

    def arguments(self) -> dict[str, Any]:
        """All arguments of the estimator."""
        framework = {} if self.kind == "Estimator" else {**_CODE, **_VERSIONS[self.kind]}
        return {k: v for k, v in {**_MACHINE, **framework, **self.estimator}.items() if v is not None}

    def train_spec(self, package: Package | None, output_path: str) -> TrainSpec:
        """Our specification of the training.

        :param output_path: where the SDK puts models when the user does not say.
        """
        ours = {
            _RENAMED.get(name, name): value for name, value in self.arguments().items() if name not in _NOT_TRAINING
        }
        plain = {"encoding": "plain"} if self.kind == "Estimator" else {}
        return TrainSpec(
            package=package,
            region=REGION,
            inputs=_channels(self.inputs),
            config_overrides=self.overrides,
            **{"output_path": output_path, **plain, **ours},
        )

    def deploy_spec(self, package: Package | None, model_data: str, endpoint_name: str) -> DeploySpec:
        """Our specification of the deployment; what the SDK takes from the estimator is the same."""
        arguments = self.arguments()
        given = {**_SERVER, **(self.deploy or {})}
        ours = {_RENAMED.get(name, name): value for name, value in given.items() if name not in ("tags", "source_dir")}
        inherited = {name: arguments[name] for name in _INHERITED if name in arguments}
        return DeploySpec(
            package=package,
            region=REGION,
            endpoint_name=endpoint_name,
            model_data=model_data,
            hosting=self.hosting,
            **inherited,
            **ours,
        )

    def package(self, s3_uri: str) -> Package | None:
        """The record of the code that the SDK put at ``s3_uri``."""
        arguments = self.arguments()
        if "entry_point" not in arguments:
            return None
        source_dir = arguments.get("source_dir")
        entry_point = arguments["entry_point"] if source_dir else arguments["entry_point"].rpartition("/")[2]
        return Package(
            schema=SCHEMA,
            s3_uri=s3_uri,
            digest="d" * 64,
            commit="c" * 40,
            tree="a" * 40,
            repo=REPO,
            entry_point=entry_point,
            source_dir=source_dir,
            size=1,
            file_count=1,
            manifest_uri="s3://bucket/manifest.json",
            reused=False,
        )


_MACHINE = {"image_uri": "image:1", "role": ROLE, "instance_count": 1, "instance_type": "ml.m5.xlarge"}
_CODE = {"entry_point": "train.py", "source_dir": "code"}
_VERSIONS = {
    "PyTorch": {"framework_version": "2.1", "py_version": "py310"},
    "SKLearn": {"framework_version": "1.2-1", "py_version": "py3"},
}
_SERVER = {"initial_instance_count": 1, "instance_type": "ml.m5.large"}
_RENAMED = {
    "keep_alive_period_in_seconds": "keep_alive_period",
    "kms_key": "volume_kms_key",
    "env": "environment",
}
_NOT_TRAINING = (
    *("entry_point", "source_dir", "dependencies", "git_config", "framework_version", "py_version"),
    *("tags", "instance_groups"),
)
_INHERITED = ("image_uri", "role", "subnets", "security_group_ids", "container_log_level")


def _channels(inputs: Any) -> list[dict[str, Any]]:
    if isinstance(inputs, str):
        inputs = {"training": inputs}
    sources = {name: {"s3_data": value} if isinstance(value, str) else value for name, value in (inputs or {}).items()}
    return [channel(name, source) for name, source in sources.items()]


CASES = [
    Case("minimal", deploy={}),
    Case(
        "every-kind-of-hyperparameter",
        {
            "hyperparameters": {
                "integer": 3,
                "fraction": 1e-05,
                "whole-fraction": 2.0,
                "text": 'a "quoted" word',
                "number-as-text": "3",
                "empty": "",
                "unicode": "größe ✓",
                "true": True,
                "nothing": None,
                "list": [1, "two", None],
                "dict": {"b": 1, "a": {"c": [False]}},
                "has-dash_and_underscore": "/opt/ml/model",
            }
        },
        "s3://data/one",
    ),
    Case(
        "every-option-of-a-channel",
        {},
        {
            "plain": "s3://data/plain/",
            "everything": {
                "s3_data": "s3://data/manifest",
                "distribution": "ShardedByS3Key",
                "compression": "Gzip",
                "content_type": "application/x-recordio",
                "record_wrapping": "RecordIO",
                "s3_data_type": "AugmentedManifestFile",
                "input_mode": "Pipe",
                "attribute_names": ["source-ref", "label"],
                "shuffle_config": 7,
            },
            "defaults": {"s3_data": "s3://data"},
            "no-shuffle-seed": {"s3_data": "s3://data/zero", "shuffle_config": 0},
        },
    ),
    Case(
        "instance-groups",
        {
            "instance_count": None,
            "instance_type": None,
            "instance_groups": [["workers", "ml.c5.xlarge", 2], ["chief", "ml.m5.xlarge", 1]],
        },
        {"training": {"s3_data": "s3://data/one", "instance_groups": ["workers"]}},
        overrides={
            "ResourceConfig": {
                "InstanceType": None,
                "InstanceCount": None,
                "InstanceGroups": [
                    {"InstanceGroupName": "workers", "InstanceType": "ml.c5.xlarge", "InstanceCount": 2},
                    {"InstanceGroupName": "chief", "InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
                ],
            }
        },
    ),
    Case(
        "spot-with-checkpoints",
        {
            "use_spot_instances": True,
            "max_run": 3600,
            "max_wait": 7200,
            "max_retry_attempts": 3,
            "checkpoint_s3_uri": "s3://checkpoints/here",
            "checkpoint_local_path": "/opt/ml/elsewhere",
        },
    ),
    Case("checkpoints-at-the-usual-place", {"checkpoint_s3_uri": "s3://checkpoints/here"}),
    Case(
        "isolated-in-a-vpc",
        {
            "subnets": ["subnet-1", "subnet-2"],
            "security_group_ids": ["sg-1"],
            "enable_network_isolation": True,
            "encrypt_inter_container_traffic": True,
            "instance_count": 2,
        },
        {"training": "s3://data/one"},
        deploy={"enable_network_isolation": True},
    ),
    Case(
        "keys",
        {
            "volume_kms_key": KEY + "1",
            "output_kms_key": KEY + "2",
            "volume_size": 77,
            "output_path": "s3://models/below",
        },
        deploy={"kms_key": KEY + "3"},
    ),
    Case(
        "warm-pool-environment-metrics-tags",
        {
            "keep_alive_period_in_seconds": 600,
            "environment": {"MODE": "größe", "EMPTY": ""},
            "metric_definitions": [
                {"Name": "loss", "Regex": "loss=(.*?);"},
                {"Name": "acc", "Regex": r"acc: ([0-9\.]+)"},
            ],
            "tags": [{"Key": "team", "Value": "blue"}],
            "container_log_level": 10,
            "input_mode": "FastFile",
            "instance_type": "ml.p3.2xlarge",
        },
        "s3://data/one",
        deploy={"tags": [{"Key": "team", "Value": "red"}]},
    ),
    Case(
        "server-of-another-script",
        deploy={
            "entry_point": "serve.py",
            "source_dir": "code",
            "model_server_workers": 3,
            "env": {"THREADS": "2"},
            "initial_instance_count": 2,
            "volume_size": 50,
            "model_data_download_timeout": 900,
            "container_startup_health_check_timeout": 600,
        },
    ),
    Case("hosting-code-in-s3", deploy={"model_server_workers": 2}, kind="SKLearn", hosting="s3"),
    Case(
        "isolated-scikit-learn-is-repacked",
        {"enable_network_isolation": True},
        deploy={"enable_network_isolation": True},
        kind="SKLearn",
    ),
    Case("script-without-source-directory", {"source_dir": None, "entry_point": "code/deep/er/train.py"}, deploy={}),
    Case("nested-entry-point", {"entry_point": "deep/er/train.py"}, deploy={}),
    Case(
        "built-in-algorithm",
        {"hyperparameters": {"k": 10, "rate": 0.1, "name": "a b", "flag": True}, "disable_output_compression": True},
        {"train": {"s3_data": "s3://data/one", "content_type": "text/csv"}},
        kind="Estimator",
    ),
    Case("model-of-a-built-in-algorithm", {"hyperparameters": {"k": 10}}, "s3://data/one", deploy={}, kind="Estimator"),
]

_GIT = {"git_config": {"repo": REPO, "branch": "main"}}
FROM_GIT = [
    Case("git-directory-and-dependencies", {**_GIT, "dependencies": ["shared", "notes.txt"]}, deploy={}),
    Case("git-directory", _GIT, deploy={}),
    Case("git-script-alone", {**_GIT, "source_dir": None, "entry_point": "code/deep/er/train.py"}, deploy={}),
    Case("git-whole-repository", {**_GIT, "source_dir": ".", "entry_point": "code/train.py"}),
]
"""The same, with code that the SDK clones itself."""
