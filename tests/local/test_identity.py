"""STS and IAM through boto3, held against moto where moto can answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

ClientFactory = Callable[..., Any]


def test_the_caller_has_an_account_and_an_arn_in_it(client: ClientFactory) -> None:
    identity = client("sts").get_caller_identity()
    assert len(identity["Account"]) == 12
    assert identity["Arn"].split(":")[4] == identity["Account"]
    assert identity["UserId"]


def test_an_unknown_role_is_named(client: ClientFactory) -> None:
    with pytest.raises(ClientError, match="missing-role") as error:
        client("iam").get_role(RoleName="missing-role")
    answer = error.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("NoSuchEntity", 404)


def test_a_role_comes_with_its_trust_policy(client: ClientFactory) -> None:
    iam = client("iam")
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    try:
        role = iam.get_role(RoleName="SageMakerRole")["Role"]
    except ClientError:
        iam.create_role(RoleName="SageMakerRole", AssumeRolePolicyDocument=json.dumps(trust))
        role = iam.get_role(RoleName="SageMakerRole")["Role"]
    assert role["Arn"].endswith(":role/SageMakerRole")
    assert (role["Path"], role["AssumeRolePolicyDocument"]) == ("/", trust)
    assert role["CreateDate"].tzinfo and role["RoleId"].startswith("AROA")


def test_the_roles_of_the_examples_exist(ours: ClientFactory) -> None:
    for name in ("sm-git-local", "SageMakerRole"):
        assert ours("iam").get_role(RoleName=name)["Role"]["Arn"] == f"arn:aws:iam::000000000000:role/{name}"


def test_a_malformed_role_name_is_refused(ours: ClientFactory) -> None:
    with pytest.raises(ClientError) as error:
        ours("iam").get_role(RoleName="a/b")
    assert error.value.response["Error"]["Code"] == "ValidationError"


def test_another_action_is_refused_by_name(ours: ClientFactory) -> None:
    with pytest.raises(ClientError, match="ListRoles") as error:
        ours("iam").list_roles()
    assert error.value.response["Error"]["Code"] == "InvalidAction"
