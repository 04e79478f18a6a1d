"""boto3 from the environment's credentials, for what runs outside of Airflow; errors say what to set there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.exceptions import (
    BotoCoreError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core import errors

_LOCAL = 'for the local SageMaker: eval "$(airflow-sm-git local env)".'
_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    NoAuthTokenError,
    TokenRetrievalError,
    SSOError,
)
# The remedies of `clients.sagemaker` speak of an Airflow connection; here there is only the environment.
_REMEDIES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((NoRegionError,), f"Set AWS_DEFAULT_REGION, or AWS_PROFILE to a profile that has a region; {_LOCAL}"),
    ((ProfileNotFound,), f"Set AWS_PROFILE to one that `aws configure list-profiles` names; {_LOCAL}"),
    (_NO_CREDENTIALS, f"Set AWS_PROFILE, or both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; {_LOCAL}"),
    (
        (HTTPClientError, ConnectionError),
        "Check the network, AWS_DEFAULT_REGION and AWS_ENDPOINT_URL; for the local SageMaker:"
        " airflow-sm-git local start.",
    ),
    (
        (errors.AccessDenied,),
        f"Check which credentials AWS_PROFILE or AWS_ACCESS_KEY_ID select, and what they allow; {_LOCAL}",
    ),
    ((BotoCoreError, ValueError), f"Check the variables AWS_* and the AWS configuration files; {_LOCAL}"),
)


def boto_client(service: str, region: str | None = None) -> Any:
    """A boto3 client of the environment.

    :param service: such as ``s3``.
    :param region: None for the environment's own.
    :raises AwsError: there is no such client, with what is wrong.
    """
    try:
        return boto3.client(service, region_name=region)
    except (BotoCoreError, ValueError) as error:  # ValueError: AWS_ENDPOINT_URL is no URL
        raise errors.AwsError(f"AWS cannot be asked: {str(error).strip().rstrip('.')}.") from error


def sagemaker_client(region: str | None = None) -> SageMakerClient:
    """SageMaker with the environment's credentials.

    :param region: None for the environment's own.
    :raises AwsError: there is no such client, with what is wrong.
    """
    return SageMakerClient(boto_client("sagemaker", region))


@contextmanager
def remedies_of_the_environment() -> Iterator[None]:
    """Let errors of AWS in the block say what to set in the environment.

    :raises AwsError: the block's, with another remedy.
    """
    try:
        yield
    except errors.AwsError as error:
        for kinds, remedy in _REMEDIES:
            if isinstance(error.__cause__, kinds) or isinstance(error, kinds):
                if error.remedy.startswith("Allow "):  # it names the action
                    remedy = f"{error.remedy.replace('the AWS connection', 'these credentials')} {remedy}"
                raise type(error)(error.what, remedy, code=error.code, operation=error.operation) from error
        raise
