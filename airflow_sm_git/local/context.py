"""What every SageMaker action needs: the stores, where this server is, and the checks that several actions share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_git.local.errors import ApiError
from airflow_sm_git.local.errors_sagemaker import refuse
from airflow_sm_git.local.faults import Faults
from airflow_sm_git.local.logs import LogStore
from airflow_sm_git.local.objects import ObjectStore
from airflow_sm_git.local.state import Info, State
from airflow_sm_git.local.store import AlreadyExists, Body, Kind, Store


@dataclass(frozen=True)
class Context:
    """The parts of one server that the actions work on."""

    state: State
    store: Store
    objects: ObjectStore
    logs: LogStore
    info: Info
    faults: Faults = field(default_factory=Faults)

    @property
    def region(self) -> str:
        """The region that this server is."""
        return self.info.region

    @property
    def account(self) -> str:
        """The account that this server is."""
        return self.info.account

    @property
    def aws(self) -> dict[str, str]:
        """The variables with which a job's script reaches this server by boto3."""
        return {
            "AWS_ACCESS_KEY_ID": self.info.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.info.secret_access_key,
            "AWS_ENDPOINT_URL": self.info.url,
        }

    def arn(self, kind: Kind, name: str) -> str:
        """The ARN of a resource of this server."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind.arn_type}/{name}"

    def require(self, kind: Kind, name: str, error: str) -> Body:
        """The resource's body.

        :param error: row of the error table for when it is not there; it may name ``arn``.
        :raises ApiError: it is not there.
        """
        body = self.store.get(kind, name)
        if body is None:
            raise refuse(error, arn=self.arn(kind, name))
        return body

    def insert(self, kind: Kind, body: Body, tags: Sequence[Mapping[str, str]], error: str) -> None:
        """Keep a new resource with its tags.

        :param error: row of the error table for when the name is taken; it names ``arn``.
        :raises ApiError: the name is taken.
        """
        try:
            self.store.insert(kind, body, tags)
        except AlreadyExists as taken:
            raise refuse(error, arn=taken.arn) from taken

    def check_role(self, role: str | None) -> None:
        """Refuse a role of another account, which SageMaker cannot be given. Every name in this one is taken.

        :raises ApiError: the role belongs to another account.
        """
        if role is not None and role.split(":")[4] != self.account:
            raise refuse("role.cross_account")

    def has_objects(self, uri: str) -> bool:
        """Whether at least one object's key starts as the ``s3://bucket/prefix`` says."""
        bucket, prefix = split_uri(uri)
        try:
            return next(iter(self.objects.list(bucket, prefix)), None) is not None
        except ApiError:
            return False


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    bucket, _, key = uri.split("://", 1)[-1].partition("/")
    return bucket, key


def public(body: Mapping[str, Any], *without: str) -> Body:
    """A resource's body as Describe answers it: without the server's own members and those named."""
    return {name: value for name, value in body.items() if not name.startswith("_") and name not in without}
