"""What the tests of requests share: a package, and a check against botocore's service model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

from airflow_sm_git.core.records import Package

ROLE = "arn:aws:iam::000000000000:role/sm-git-local"
IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/any:1"
PACKAGE: Package = {
    "schema": 1,
    "s3_uri": "s3://bucket/sm-git/0123/sourcedir.tar.gz",
    "digest": "0123" * 16,
    "commit": "a" * 40,
    "tree": "b" * 40,
    "repo": "https://example.com/it.git",
    "entry_point": "train.py",
    "source_dir": "src",
    "size": 100,
    "file_count": 2,
    "manifest_uri": "s3://bucket/manifest.json",
    "reused": False,
}
TAGS = [{"Key": "sm-git:dag", "Value": "d"}]
_MODEL = botocore.session.Session().get_service_model("sagemaker")


def assert_sendable(action: str, request: Mapping[str, Any]) -> None:
    """Assert that botocore would send a request as this action."""
    report = ParamValidator().validate(dict(request), _MODEL.operation_model(action).input_shape)
    assert not report.has_errors(), report.generate_report()


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Each value in a request, by its path."""
    if isinstance(value, Mapping):
        return {k: v for key, each in value.items() for k, v in leaves(each, f"{path}.{key}".lstrip(".")).items()}
    if isinstance(value, list):
        return {k: v for number, each in enumerate(value) for k, v in leaves(each, f"{path}.{number}").items()}
    return {path: value}
