"""The SageMaker API: requests out, answers in, refusals as `core.errors`.

Waiting takes its clock and its sleep as parameters, so that a test need not wait.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.validate import ParamValidator

from airflow_sm_git.core import errors
from airflow_sm_git.core.failures import denied_remedy, quota_frees
from airflow_sm_git.core.status import ENDPOINT, TRAINING_JOB, Phase, phase

_CODES: dict[type[errors.AwsError], str] = {
    errors.AccessDenied: "AccessDenied AccessDeniedException SignatureDoesNotMatch InvalidSignatureException"
    " UnrecognizedClientException InvalidClientTokenId InvalidAccessKeyId InvalidToken ExpiredToken"
    " ExpiredTokenException MissingAuthenticationTokenException 403",
    # The codes that botocore's standard retries count as throttling, as far as these services give them.
    errors.Throttled: "Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException"
    " TooManyRequestsException RequestLimitExceeded BandwidthLimitExceeded SlowDown LimitExceededException 429",
    errors.ServiceFault: "RequestTimeout RequestTimeoutException",
    errors.NotFound: "ResourceNotFound ResourceNotFoundException NoSuchKey NoSuchBucket NoSuchEntity 404",
    errors.NameInUse: "ResourceInUse ResourceAlreadyExists",
    errors.LimitExceeded: "ResourceLimitExceeded",
}
_BY_CODE = {code: kind for kind, codes in _CODES.items() for code in codes.split()}
# SageMaker says "not found" and "exists already" as ValidationException; the texts are what the SageMaker SDK and the
# Amazon provider tell them apart by.
_BY_TEXT: tuple[tuple[str, type[errors.AwsError]], ...] = (
    ("Could not find", errors.NotFound),
    ("Requested resource not found", errors.NotFound),
    (" not found.", errors.NotFound),  # InvokeEndpoint: "Endpoint … of account … not found."
    ("Cannot create already existing", errors.NameInUse),
    ("in-progress", errors.NameInUse),
)
# The errors of botocore that are no answer of AWS: those that time may mend, and those that credentials will.
_NO_ANSWER = (HTTPClientError, ConnectionError, IncompleteReadError, MetadataRetrievalError, CredentialRetrievalError)
_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    NoAuthTokenError,
    TokenRetrievalError,
    SSOError,
    ProfileNotFound,
)
_REMEDIES: dict[type[errors.AwsError], str] = {
    errors.Throttled: "Try again; raise check_interval if it happens often.",
    errors.ServiceFault: "Try again.",
    errors.NotFound: "Check the name and the region.",
    errors.NameInUse: "Choose another name, or remove what has it.",
    errors.LimitExceeded: "Ask AWS for a higher quota, or use a smaller instance_type or instance_count.",
}
# What botocore's report says of a variable or hyperparameter, which may be a secret.
_GIVEN = re.compile(r"(parameter \S*(?:Environment|HyperParameters)\.\S+, value: ).*?(, type: )", re.DOTALL)
MAX_PAUSE = 60.0  # seconds between two looks without an answer
_log = logging.getLogger(__name__)
_CREDENTIALS = "Check the AWS connection's credentials."


def translate(error: Exception, operation: str, resource: str = "") -> errors.SmGitError:
    """Turn what boto3 raises into one of ours; the caller raises it `from` the original."""
    on = f" for {resource}" if resource else ""
    if isinstance(error, ParamValidationError):
        return errors.BadParameter(
            "config_overrides", operation, f"gives a request that SageMaker has no form for: {error}"
        )
    if not isinstance(error, ClientError):
        return _unanswered(error, operation, on)
    code = error.response.get("Error", {}).get("Code", "")
    message = error.response.get("Error", {}).get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind = _kind(code, message, status)
    what = f"{operation}{on} was refused with {code}: {message}"
    if kind is errors.LimitExceeded:
        remedy = _REMEDIES[kind]
        return errors.LimitExceeded(what, remedy, code=code, operation=operation, free_later=quota_frees(message))
    remedy = denied_remedy(message, operation) if kind is errors.AccessDenied else _REMEDIES.get(kind, "")
    return kind(what, remedy, code=code, operation=operation)


def _unanswered(error: Exception, operation: str, on: str) -> errors.AwsError:
    said = str(error).strip().rstrip(".")
    if isinstance(error, _NO_ANSWER):
        remedy = "Check the network, and the connection's endpoint_url and region."
        return errors.ServiceFault(f"{operation}{on} got no answer: {said}.", remedy, operation=operation)
    what = f"{operation}{on} could not be sent: {said}."
    if isinstance(error, _NO_CREDENTIALS):
        return errors.AccessDenied(what, _CREDENTIALS, operation=operation)
    return errors.AwsError(what, "Check the AWS connection's region, endpoint_url and extra.", operation=operation)


def _kind(code: str, message: str, status: int) -> type[errors.AwsError]:
    for text, kind in _BY_TEXT:
        if text in message:
            return kind
    fallback = errors.ServiceFault if status >= 500 else errors.AwsError
    return _BY_CODE.get(code) or _BY_CODE.get(str(status), fallback)


class SageMakerClient:
    """SageMaker through one boto3 client.

    :param client: a boto3 ``sagemaker`` client; None to have `connect` make it when it is first needed.
    :param connect: makes one; called with True where the credentials of the last one have expired. What it raises, the
        call raises that needs the client.
    """

    def __init__(
        self,
        client: Any = None,
        *,
        connect: Callable[[bool], Any] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._made = client
        self._connect = connect
        self._sleep = sleep

    @property
    def _client(self) -> Any:
        if self._made is None and self._connect is not None:
            self._made = self._connect(False)
        return self._made

    @property
    def region(self) -> str:
        """The region the client talks to."""
        return str(self._client.meta.region_name)

    def call(self, operation: str, /, **request: Any) -> dict[str, Any]:
        """Make one call.

        :param operation: the API action, such as ``CreateTrainingJob``.
        :raises AwsError: AWS refused it.
        :raises BadParameter: the request has not the form that the API knows.
        """
        try:
            return self._send(operation, request)
        except errors.AccessDenied as error:
            if self._connect is None or not error.code.startswith("ExpiredToken"):
                raise
            _log.info("The credentials have expired: asking the connection for new ones")
            self._made = self._connect(True)
            return self._send(operation, request)

    def _send(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client, _snake(operation))(**request)
        except (ClientError, BotoCoreError) as error:
            raise translate(error, operation, _resource(request)) from error
        return answer

    def validate(self, operation: str, request: Mapping[str, Any]) -> None:
        """Check a request's form against botocore's service model without sending it.

        :raises BadParameter: a member is unknown, missing or of another type.
        """
        shape = self._client.meta.service_model.operation_model(operation).input_shape
        report = ParamValidator().validate(dict(request), shape)
        if report.has_errors():
            said = _GIVEN.sub(r"\1***\2", report.generate_report())
            raise errors.BadParameter("config_overrides", operation, said, "See the API reference of this action.")

    def describe(self, kind: str, name: str) -> dict[str, Any] | None:
        """Describe a resource.

        :param kind: TrainingJob, Model, EndpointConfig or Endpoint.
        :return: the answer, or None if there is no such resource.
        """
        try:
            return self.call(f"Describe{kind}", **{f"{kind}Name": name})
        except errors.NotFound:
            return None

    def look(
        self, kind: str, name: str, *, deadline: float, clock: Callable[[], float] = time.time
    ) -> dict[str, Any] | None:
        """`describe`, again and again where there is no answer: what is waited for goes on all the same.

        :param deadline: how long to bear that, on the clock's scale (seconds since 1970).
        :raises AwsError: AWS refused it, or had not answered by then.
        """
        pause = 1.0
        while True:
            try:
                return self.describe(kind, name)
            except errors.AwsError as error:
                if not error.retryable or clock() >= deadline:
                    raise
                _log.warning("%s %s cannot be looked at, so later again: %s", kind, name, error)
            self._sleep(max(0.0, min(pause, deadline - clock())))
            pause = min(2 * pause, MAX_PAUSE)

    def names(self, kind: str, contains: str) -> list[str]:
        """Names of the resources of a kind that contain a text, all pages.

        :param kind: TrainingJob, Model, EndpointConfig or Endpoint.
        """
        return [item[f"{kind}Name"] for item in self.summaries(kind, NameContains=contains)]

    def summaries(self, kind: str, **filters: Any) -> Iterator[dict[str, Any]]:
        """What a listing says of each resource of a kind, all pages.

        :param kind: TrainingJob, Model, EndpointConfig or Endpoint.
        :param filters: what the listing takes, such as ``StatusEquals``.
        """
        plural = "TrainingJobSummaries" if kind == "TrainingJob" else f"{kind}s"
        return self._pages(f"List{kind}s", plural, **filters)

    def changed(self, kind: str, since: datetime, status: str | None = None) -> Iterator[tuple[str, str]]:
        """Name and status of each training job or endpoint that was modified since a time.

        :param kind: TrainingJob or Endpoint.
        :param status: only what has this one now.
        """
        only = {"StatusEquals": status} if status else {}
        member = "TrainingJobSummaries" if kind == "TrainingJob" else "Endpoints"
        for item in self._pages(f"List{kind}s", member, LastModifiedTimeAfter=since, MaxResults=100, **only):
            yield item[f"{kind}Name"], item[f"{kind}Status"]

    def _pages(self, operation: str, member: str, **request: Any) -> Iterator[dict[str, Any]]:
        while True:
            answer = self.call(operation, **request)
            yield from answer[member]
            if not answer.get("NextToken"):
                return
            request["NextToken"] = answer["NextToken"]

    def tags(self, arn: str) -> list[dict[str, str]]:
        """All tags of a resource."""
        return list(self._pages("ListTags", "Tags", ResourceArn=arn))

    def delete(self, kind: str, name: str) -> bool:
        """Delete an endpoint, endpoint configuration or model.

        :return: whether it was there.
        """
        try:
            self.call(f"Delete{kind}", **{f"{kind}Name": name})
        except errors.NotFound:
            return False
        return True

    def wait(
        self,
        kind: str,
        name: str,
        *,
        check_interval: float,
        deadline: float,
        clock: Callable[[], float] = time.time,
        each: Callable[[], object] = lambda: None,
    ) -> tuple[dict[str, Any] | None, Phase]:
        """Describe a training job or endpoint until it has ended, is gone, or the deadline has passed.

        :param check_interval: seconds between two looks.
        :param deadline: on the clock's scale (seconds since 1970).
        :param each: called after each look that found it running.
        :return: the last answer and its phase; `Phase.RUNNING` says that the deadline has passed.
        :raises AwsError: as `look`.
        """
        while True:
            answer = self.look(kind, name, deadline=deadline, clock=clock)
            now = Phase.GONE if answer is None else status_phase(kind, answer[f"{kind}Status"])
            if now.ended or clock() >= deadline:
                return answer, now
            each()
            self._sleep(max(0.0, min(check_interval, deadline - clock())))


def status_phase(kind: str, status: str) -> Phase:
    """What a status means for a kind of resource (TrainingJob or Endpoint)."""
    return phase(TRAINING_JOB if kind == "TrainingJob" else ENDPOINT, status)


class RuntimeClient:
    """InvokeEndpoint through one boto3 ``sagemaker-runtime`` client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def invoke(self, **request: Any) -> tuple[bytes, dict[str, Any]]:
        """Ask an endpoint.

        :return: the body, and the rest of the answer (ContentType, InvokedProductionVariant, …).
        :raises PredictionError: the model raised, with its own message and where its log is.
        :raises AwsError: AWS refused the call.
        """
        name = request["EndpointName"]
        try:
            answer = self._client.invoke_endpoint(**request)
            return answer.pop("Body").read(), answer
        except ClientError as error:
            response = error.response
            if response.get("Error", {}).get("Code") != "ModelError":
                raise translate(error, "InvokeEndpoint", name) from error
            status = response.get("OriginalStatusCode", 500)
            message = str(response.get("OriginalMessage") or response["Error"].get("Message", ""))
            said = errors.PredictionError(
                f"The model behind endpoint {name!r} answered {status}: {message.strip()[-2000:]}",
                f"Correct the handlers or the payload. Its log group is /aws/sagemaker/Endpoints/{name}.",
            )
            said.retryable = status >= 500  # what is wrong with the payload stays so
            raise said from error
        except BotoCoreError as error:
            raise translate(error, "InvokeEndpoint", name) from error


def _snake(operation: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).lstrip("_")


def _resource(request: Mapping[str, Any]) -> str:
    names = ("TrainingJobName", "EndpointName", "EndpointConfigName", "ModelName", "ResourceArn", "NameContains")
    return next((str(request[name]) for name in names if name in request), "")
