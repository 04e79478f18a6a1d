from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_git.core.checks import (
    check_choice,
    check_image,
    check_instance_type,
    check_positive,
    check_role_arn,
    check_s3_uri,
    is_role_name,
    split_s3_uri,
)
from airflow_sm_git.core.errors import BadParameter

MODEL = botocore.session.Session().get_service_model("sagemaker")
Check = Callable[[str, Any], object]
GOOD: list[tuple[Check, list[Any]]] = [
    (
        check_role_arn,
        [
            "arn:aws:iam::000000000000:role/r",
            "arn:aws-cn:iam::123456789012:role/service-role/A_b+=,.@-c",
            "arn:aws-us-gov:iam::123456789012:role/r",
        ],
    ),
    (check_image, ["000000000000.dkr.ecr.us-east-1.amazonaws.com/any:1", "public.ecr.aws/x@sha256:0", "i" * 255]),
    (check_instance_type, ["ml.m5.large", "ml.p4d.24xlarge", "ml.g6e-flex.12xlarge", "ml.trn1n.32xlarge"]),
    (check_s3_uri, ["s3://abc", "s3://abc/", "s3://my.bucket-1/a/b c/é", "s3://abc/" + "k" * 1015]),
    (check_positive, [1, 86400]),
]
BAD: list[tuple[Check, list[Any]]] = [
    (
        check_role_arn,
        [
            "",
            "sm-git-local",
            "arn:aws:iam::12345678901:role/r",
            "arn:aws:iam::123456789012:user/r",
            "arn:aws:iam::123456789012:role/r\n",
            " arn:aws:iam::123456789012:role/r",
            None,
        ],
    ),
    (check_image, ["", "an image", "image\n", "i" * 256, None, 1]),
    (
        check_instance_type,
        ["", "local", "local_gpu", "m5.large", "ml.m5", "ml.m5.large ", "ml..large", "ML.M5.LARGE", None],
    ),
    (
        check_s3_uri,
        [
            "",
            "s3://",
            "s3://a",
            "s3:///key",
            "S3://abc/k",
            "https://abc/k",
            "file:///a/x",
            "/a/x",
            "s3://Bucket/k",
            "s3://-abc/k",
            "s3://abc/" + "k" * 1016,
            "s3://abc\n",
            None,
        ],
    ),
    (check_positive, [0, -1, 1.0, "1", True, None]),
]


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, values in GOOD for value in values])
def test_a_good_value_is_handed_back(check: Check, value: Any) -> None:
    assert check("it", value) == value


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, values in BAD for value in values])
def test_a_bad_value_is_refused_with_parameter_value_and_remedy(check: Check, value: Any) -> None:
    with pytest.raises(BadParameter) as caught:
        check("the_parameter", value)
    assert str(caught.value).startswith(f"the_parameter={value!r}: is not ")
    assert caught.value.remedy.startswith("Write ")


@pytest.mark.parametrize("shape", ["TrainingInstanceType", "ProductionVariantInstanceType"])
def test_every_instance_type_that_botocore_knows_passes(shape: str) -> None:
    known = MODEL.shape_for(shape).enum
    assert len(known) > 50
    for instance_type in known:
        check_instance_type("instance_type", instance_type)


@given(st.from_regex(r"arn:aws[a-z\-]{0,8}:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@\-_/]{1,64}", fullmatch=True))
def test_every_role_that_sagemaker_takes_passes(role: str) -> None:
    assert re.fullmatch(MODEL.shape_for("RoleArn").metadata["pattern"], role)
    assert check_role_arn("role", role) == role


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("sm-git-local", True),
        ("A_b+=,.@-c", True),
        ("r" * 64, True),
        ("r" * 65, False),
        ("", False),
        ("a/b", False),
        ("arn:aws:iam::123456789012:role/r", False),
    ],
)
def test_a_role_name_is_told_from_an_arn(value: str, expected: bool) -> None:
    assert is_role_name(value) is expected


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://abc", ("abc", "")),
        ("s3://abc/", ("abc", "")),
        ("s3://abc/k", ("abc", "k")),
        ("s3://abc//a//b/", ("abc", "/a//b/")),
        ("s3://abc/a?b#c d", ("abc", "a?b#c d")),
    ],
)
def test_an_s3_uri_is_taken_apart_without_loss(uri: str, parts: tuple[str, str]) -> None:
    assert split_s3_uri("uri", uri) == parts


def test_a_choice_suggests_the_nearest_and_lists_all() -> None:
    assert check_choice("hosting", "s3", ("repack", "s3")) == "s3"
    with pytest.raises(BadParameter, match=r"hosting='repak'.* Did you mean 'repack'\? Choices: repack, s3\."):
        check_choice("hosting", "repak", ("repack", "s3"))
    with pytest.raises(BadParameter) as caught:
        check_choice("hosting", "elsewhere", ("repack", "s3"))
    assert caught.value.remedy == "Choices: repack, s3."
