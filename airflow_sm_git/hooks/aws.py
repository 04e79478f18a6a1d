"""From an Airflow connection of type ``aws`` to our clients.

The Amazon provider's hook does the credentials: assumed roles, web identity, endpoint URLs and the rest are its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_git import settings
from airflow_sm_git.clients.codecommit import AwsKeys
from airflow_sm_git.clients.s3 import Store
from airflow_sm_git.clients.sagemaker import RuntimeClient, SageMakerClient, translate
from airflow_sm_git.core.checks import check_role_arn, is_role_name
from airflow_sm_git.core.errors import BadParameter

_loaders: dict[str, Any] = {}


class _OneSessionHook(AwsGenericHook[Any]):
    """The provider's hook, for all services at once.

    A session of its own for each would read botocore's service models anew, a tenth of a second and several megabytes
    each time; what they say is the same for all, so all sessions of a process share one loader.
    """

    @cached_property
    def _session(self) -> Any:
        session = super().get_session(region_name=self.region_name)
        inner = session._session  # boto3 has no public way to the botocore session it wraps
        inner.register_component("data_loader", _loaders.setdefault("one", inner.get_component("data_loader")))
        return session

    def get_session(self, region_name: str | None = None, deferrable: bool = False) -> Any:
        return self._session

    @cached_property
    def _made(self) -> dict[str, Any]:
        return {}

    def client(self, service: str) -> Any:
        if service not in self._made:
            self.client_type = service
            self._made[service] = self.get_client_type(region_name=self.region_name)
        return self._made[service]


@dataclass(frozen=True)
class AwsHook:
    """Clients of one connection. The parameters are the Amazon provider's."""

    aws_conn_id: str | None = "aws_default"
    region_name: str | None = None
    verify: bool | str | None = None
    botocore_config: dict[str, Any] | None = None

    @cached_property
    def _hook(self) -> _OneSessionHook:
        config = Config(**self.botocore_config) if self.botocore_config else None
        return _OneSessionHook(self.aws_conn_id, region_name=self.region_name, verify=self.verify, config=config)

    def _client(self, service: str) -> Any:
        with self._logging_in():
            return self._hook.client(service)

    @contextmanager
    def _logging_in(self) -> Iterator[None]:
        """Let what goes wrong on the way to a client be an error of ours: the provider's hook asks for a role then.

        :raises AwsError: there are no credentials, or no region.
        """
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            operation = getattr(error, "operation_name", "The login")
            raise translate(error, operation, f"connection {self.aws_conn_id!r}") from error

    def sagemaker(self) -> SageMakerClient:
        """SageMaker's API. Where the connection's credentials expire, it asks the connection for new ones.

        The connection is first asked at the first call, so that who bears a call that fails bears that as well.
        """
        return SageMakerClient(connect=self._sagemaker)

    def _sagemaker(self, anew: bool) -> Any:
        if anew:
            self.__dict__.pop("_hook", None)  # with the session and all clients of it
        return self._client("sagemaker")

    def runtime(self) -> RuntimeClient:
        """InvokeEndpoint."""
        return RuntimeClient(self._client("sagemaker-runtime"))

    def logs(self) -> Any:
        """CloudWatch Logs, as boto3's client."""
        return self._client("logs")

    def store(self, s3_uri_prefix: str | None = None) -> Store:
        """The place for packages and models.

        :param s3_uri_prefix: None for the setting, and without one for SageMaker's default bucket, of which the owner
            is then checked: its name can be guessed, so a stranger may have it.
        """
        client = self._client("s3")
        prefix = s3_uri_prefix or settings.get("s3_uri_prefix")
        if prefix:
            return Store(client, prefix)
        account = self.account()
        region = client.meta.region_name
        return Store(client, f"s3://sagemaker-{region}-{account}/sm-git/", expected_owner=account)

    def account(self) -> str:
        """The account's id, twelve digits."""
        try:
            return str(self._client("sts").get_caller_identity()["Account"])
        except (ClientError, BotoCoreError) as error:
            raise translate(error, "GetCallerIdentity", f"connection {self.aws_conn_id!r}") from error

    def keys(self) -> AwsKeys:
        """The connection's credentials as they are now; those of a role are renewed before they end.

        :raises BadParameter: it has none.
        """
        with self._logging_in():
            found = self._hook.get_session().get_credentials()
            frozen = found.get_frozen_credentials() if found else None
        if frozen is None:
            remedy = "Give it credentials, or the worker a role; or a user name and a password by git_conn_id."
            raise BadParameter("aws_conn_id", self.aws_conn_id, "the connection gives no AWS credentials.", remedy)
        return AwsKeys(frozen.access_key, frozen.secret_key, frozen.token)

    def region(self) -> str | None:
        """The connection's region."""
        with self._logging_in():
            region = self._hook.get_session().region_name
        return str(region) if region else None

    def role_arn(self, role: str | None) -> str:
        """The ARN of an execution role.

        :param role: its ARN, or its name, which is looked up; None for the setting.
        :raises BadParameter: neither is given, or the value is neither, or there is no such role.
        """
        value = role or settings.get("role")
        if not value:
            raise BadParameter("role", role, "is not given", "Give role, or set [sm_git] role.")
        if value.startswith("arn:"):
            return check_role_arn("role", value)
        if not is_role_name(value):
            return check_role_arn("role", value)
        try:
            return str(self._client("iam").get_role(RoleName=value)["Role"]["Arn"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchEntity":
                raise BadParameter(
                    "role", value, "no role has this name", "Give its ARN, or an existing name."
                ) from error
            raise translate(error, "GetRole", value) from error
        except BotoCoreError as error:
            raise translate(error, "GetRole", value) from error
