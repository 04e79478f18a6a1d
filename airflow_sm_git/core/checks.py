"""Checks of single values, so that a mistake is named before anything is sent.

Patterns from the SageMaker API reference: ``RoleArn``, ``ContainerImage``, ``S3Uri``; instance types are open-ended
(AWS adds some every month), so only their form is checked here and the service knows the rest.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from airflow_sm_git.core.errors import BadParameter

_ROLE_ARN = re.compile(r"arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+")
_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}")
_INSTANCE_TYPE = re.compile(r"ml\.[a-z][a-z0-9-]*\.[a-z0-9-]+")
_MODEL_DATA = re.compile(r"(https|s3)://[^/]+/.+")
_S3_URI = re.compile(r"s3://([a-z0-9][a-z0-9.\-]{1,61}[a-z0-9])(?:/(.*))?")


def check_role_arn(parameter: str, value: str) -> str:
    """:raises BadParameter: not the ARN of an IAM role."""
    if not isinstance(value, str) or not _ROLE_ARN.fullmatch(value):
        raise BadParameter(
            parameter,
            value,
            "is not the ARN of an IAM role",
            "Write arn:aws:iam::<12 digits>:role/<name>, or the role's name.",
        )
    return value


def is_role_name(value: str) -> bool:
    """Whether a value could be the bare name of an IAM role."""
    return bool(_ROLE_NAME.fullmatch(value))


def check_image(parameter: str, value: str) -> str:
    """:raises BadParameter: not the URI of a container image."""
    if not isinstance(value, str) or not re.fullmatch(r"\S{1,255}", value):
        raise BadParameter(
            parameter,
            value,
            "is not the URI of a container image",
            "Write <account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>, at most 255 characters and no space.",
        )
    return value


def check_instance_type(parameter: str, value: str) -> str:
    """:raises BadParameter: not an ML instance type."""
    if not isinstance(value, str) or not _INSTANCE_TYPE.fullmatch(value):
        raise BadParameter(
            parameter,
            value,
            "is not an ML instance type",
            "Write one such as ml.m5.xlarge, with a local SageMaker too.",
        )
    return value


def check_s3_uri(parameter: str, value: str) -> str:
    """:raises BadParameter: not an S3 URI."""
    if not isinstance(value, str) or not _S3_URI.fullmatch(value) or len(value) > 1024:
        raise BadParameter(parameter, value, "is not an S3 URI", "Write s3://<bucket>/<key>.")
    return value


def split_s3_uri(parameter: str, value: str) -> tuple[str, str]:
    """Take an S3 URI apart into bucket and key; the key may be empty.

    :raises BadParameter: not an S3 URI.
    """
    match = _S3_URI.fullmatch(check_s3_uri(parameter, value))
    assert match is not None  # noqa: S101  check_s3_uri has matched it
    return match.group(1), match.group(2) or ""


def check_s3_object(parameter: str, value: str) -> str:
    """:raises BadParameter: not an S3 URI with a key."""
    if not split_s3_uri(parameter, value)[1]:
        raise BadParameter(parameter, value, "names a bucket and no object", "Write s3://<bucket>/<key>.")
    return value


def check_model_data(parameter: str, value: str) -> str:
    """:raises BadParameter: not what CreateModel takes (API reference, ContainerDefinition, ModelDataUrl)."""
    if not _MODEL_DATA.fullmatch(value):
        raise BadParameter(parameter, value, "is not the URI of an object", "Write s3://<bucket>/<key>.")
    return value


def check_positive(parameter: str, value: int) -> int:
    """:raises BadParameter: not a whole number above zero."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadParameter(parameter, value, "is not a whole number above zero", "Write 1 or more.")
    return value


def check_choice(parameter: str, value: str, choices: Collection[str]) -> str:
    """:raises BadParameter: not one of the choices; the nearest one is suggested."""
    if value not in choices:
        near = difflib.get_close_matches(str(value), list(choices), n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise BadParameter(parameter, value, "is not one of the choices", f"{hint}Choices: {', '.join(choices)}.")
    return value
