from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import botocore.exceptions
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker

from airflow_sm_git.clients.sagemaker import RuntimeClient, SageMakerClient, status_phase, translate
from airflow_sm_git.core import errors
from airflow_sm_git.core.status import Phase
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import HANDLER, client, config, settled, training_job, unique


@pytest.fixture
def sagemaker(local_sagemaker: LocalSageMaker) -> SageMakerClient:
    return SageMakerClient(client(local_sagemaker, "sagemaker"))


def refused(code: str, status: int = 400, message: str = "Because.") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "X"
    )


# Every code that botocore's models and retries name and these services can give to our calls.
CODES = {
    errors.AccessDenied: [
        "AccessDenied",
        "AccessDeniedException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "ExpiredToken",
        "ExpiredTokenException",
        "403",
    ],
    errors.Throttled: ["Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown"],
    errors.ServiceFault: ["RequestTimeout"],
    errors.NotFound: [
        "ResourceNotFound",
        "ResourceNotFoundException",
        "NoSuchKey",
        "NoSuchBucket",
        "NoSuchEntity",
        "404",
    ],
    errors.NameInUse: ["ResourceInUse", "ResourceAlreadyExists"],
    errors.LimitExceeded: ["ResourceLimitExceeded"],
    errors.AwsError: ["ValidationException", "ConflictException", "SomethingNew"],
}
# Throttling codes of services that we do not call.
ELSEWHERE = {
    "ProvisionedThroughputExceededException",
    "TransactionInProgressException",
    "PriorRequestNotComplete",
    "EC2ThrottledException",
}


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in CODES.items() for code in codes])
def test_a_code_becomes_its_own_error(kind: type[errors.AwsError], code: str) -> None:
    error = translate(refused(code), "CreateModel", "m")
    assert type(error) is kind
    assert error.code == code
    assert error.operation == "CreateModel"
    assert error.what == f"CreateModel for m was refused with {code}: Because."
    assert error.remedy or kind is errors.AwsError


@pytest.mark.parametrize("code", sorted({*ThrottledRetryableChecker._THROTTLED_ERROR_CODES} - ELSEWHERE))
def test_every_code_that_botocore_counts_as_throttling_is_throttling(code: str) -> None:
    assert type(translate(refused(code), "ListTags")) is errors.Throttled


@pytest.mark.parametrize("code", sorted({*TransientRetryableChecker._TRANSIENT_ERROR_CODES} - ELSEWHERE))
def test_every_code_that_botocore_counts_as_passing_is_worth_another_try(code: str) -> None:
    assert translate(refused(code), "ListTags").retryable


@pytest.mark.parametrize("service", ["sagemaker", "sagemaker-runtime", "s3", "sts"])
def test_every_server_fault_in_botocores_models_is_worth_another_try(service: str) -> None:
    model = botocore.session.Session().get_service_model(service)
    for shape in model.error_shapes:
        facts = shape.metadata.get("error", {})
        status = facts.get("httpStatusCode", 400)
        error = translate(refused(facts.get("code", shape.name), status), "X")
        if status >= 500 or status == 429:
            assert error.retryable, shape.name
        if status == 403:
            assert type(error) is errors.AccessDenied, shape.name
        if status == 404:
            assert type(error) is errors.NotFound, shape.name


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, errors.AwsError), (403, errors.AccessDenied), (404, errors.NotFound), (429, errors.Throttled)]
    + [(status, errors.ServiceFault) for status in (500, 502, 503, 504, 530)],
)
def test_an_unknown_code_is_judged_by_its_http_status(status: int, kind: type[errors.AwsError]) -> None:
    assert type(translate(refused("Mystery", status), "X")) is kind


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('Could not find model "m".', errors.NotFound),
        ('Could not find endpoint configuration "c".', errors.NotFound),
        ("Requested resource not found.", errors.NotFound),
        ('Cannot create already existing model "m".', errors.NameInUse),
        ("1 validation error detected", errors.AwsError),
    ],
)
def test_what_sagemaker_calls_a_validation_exception_is_told_apart_by_its_text(
    message: str, kind: type[errors.AwsError]
) -> None:
    assert type(translate(refused("ValidationException", 400, message), "X")) is kind


def botocore_errors() -> list[type[BotoCoreError]]:
    def below(kind: type[BotoCoreError]) -> list[type[BotoCoreError]]:
        return [each for sub in kind.__subclasses__() for each in (sub, *below(sub))]

    return sorted(
        {kind for kind in below(BotoCoreError) if vars(botocore.exceptions).get(kind.__name__) is kind},
        key=lambda kind: kind.__name__,
    )


class Blanks(dict[str, Any]):
    """Fills any field of a botocore error's message."""

    def __missing__(self, key: str) -> str:
        return f"<{key}>"


def made(kind: type[BotoCoreError]) -> BotoCoreError:
    error = kind.__new__(kind)
    Exception.__init__(error, kind.fmt.format_map(Blanks()))
    error.kwargs = {}
    return error


@pytest.mark.parametrize("kind", botocore_errors())
def test_no_error_of_botocore_stays_untranslated_or_unexplained(kind: type[BotoCoreError]) -> None:
    error = translate(made(kind), "CreateModel", "m")
    assert "CreateModel" in str(error)
    assert error.remedy or isinstance(error, errors.BadParameter)


@pytest.mark.parametrize(
    ("name", "kind", "retryable"),
    [
        ("EndpointConnectionError", errors.ServiceFault, True),
        ("ConnectTimeoutError", errors.ServiceFault, True),
        ("ReadTimeoutError", errors.ServiceFault, True),
        ("ConnectionClosedError", errors.ServiceFault, True),
        ("ResponseStreamingError", errors.ServiceFault, True),
        ("SSLError", errors.ServiceFault, True),
        ("NoCredentialsError", errors.AccessDenied, False),
        ("PartialCredentialsError", errors.AccessDenied, False),
        ("UnauthorizedSSOTokenError", errors.AccessDenied, False),
        ("ProfileNotFound", errors.AccessDenied, False),
        ("NoRegionError", errors.AwsError, False),
        ("ParamValidationError", errors.BadParameter, False),
    ],
)
def test_only_what_time_may_mend_is_worth_another_try(
    name: str, kind: type[errors.SmGitError], retryable: bool
) -> None:
    error = translate(made(getattr(botocore.exceptions, name)), "X")
    assert type(error) is kind
    assert error.retryable is retryable


# Against the local SageMaker.


def test_a_call_that_is_refused_raises_from_the_original(sagemaker: SageMakerClient) -> None:
    with pytest.raises(errors.NotFound, match=r"DescribeModel for no-such-model was refused with \w+") as caught:
        sagemaker.call("DescribeModel", ModelName="no-such-model")
    assert isinstance(caught.value.__cause__, ClientError)


def test_a_request_without_the_form_of_the_api_is_a_bad_parameter(sagemaker: SageMakerClient) -> None:
    with pytest.raises(errors.BadParameter, match=r"CreateModel(.|\n)*Modelname"):
        sagemaker.call("CreateModel", Modelname="m")


def test_a_wrong_key_is_access_denied(local_sagemaker: LocalSageMaker) -> None:
    wrong = SageMakerClient(local_sagemaker.client("sagemaker", aws_secret_access_key="wrong"))
    with pytest.raises(errors.AccessDenied, match="credentials"):
        wrong.call("ListModels")


def test_no_server_is_a_service_fault() -> None:
    session = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    nobody = session.client(
        "sagemaker", endpoint_url="http://127.0.0.1:9", config=Config(retries={"total_max_attempts": 1})
    )
    with pytest.raises(errors.ServiceFault, match="ListModels got no answer"):
        SageMakerClient(nobody).call("ListModels")


def test_no_credentials_are_no_service_fault() -> None:
    nobody = boto3.session.Session(region_name="us-east-1").client("sagemaker", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(errors.AccessDenied, match="could not be sent"):
        SageMakerClient(nobody).call("ListModels")


def test_the_region_is_the_clients(local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient) -> None:
    assert sagemaker.region == local_sagemaker.info.region


def test_a_form_is_checked_without_sending_anything(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient
) -> None:
    before = len(local_sagemaker.requests())
    sagemaker.validate("CreateEndpoint", {"EndpointName": "e", "EndpointConfigName": "c"})
    for request in ({"EndpointName": "e"}, {"EndpointName": 1, "EndpointConfigName": "c"}):
        with pytest.raises(errors.BadParameter, match="config_overrides='CreateEndpoint'"):
            sagemaker.validate("CreateEndpoint", request)
    with pytest.raises(errors.BadParameter, match="Zone"):
        sagemaker.validate("CreateEndpoint", {"EndpointName": "e", "EndpointConfigName": "c", "Zone": "z"})
    assert len(local_sagemaker.requests()) == before


@pytest.mark.parametrize("kind", ["TrainingJob", "Model", "EndpointConfig", "Endpoint"])
def test_what_is_not_there_is_described_as_none(sagemaker: SageMakerClient, kind: str) -> None:
    assert sagemaker.describe(kind, unique("none")) is None


def test_a_resource_is_found_by_a_part_of_its_name_on_every_page(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient
) -> None:
    some = sagemaker.call("DescribeEndpointConfig", EndpointConfigName=config(local_sagemaker, "w"))
    part = unique("page")
    names = {f"{part}-{number}" for number in range(25)}  # the API gives ten a page by default
    for name in names:
        sagemaker.call("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=some["ProductionVariants"])
    assert sorted(sagemaker.names("EndpointConfig", part)) == sorted(names)
    assert sagemaker.names("EndpointConfig", unique("none")) == []


def test_all_tags_of_a_resource_are_read(local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient) -> None:
    name = config(local_sagemaker, "w")
    described = sagemaker.describe("EndpointConfig", name)
    assert described is not None
    tags = [{"Key": f"k{number:02}", "Value": "v"} for number in range(45)]
    sagemaker.call("AddTags", ResourceArn=described["EndpointConfigArn"], Tags=tags)
    assert sorted(sagemaker.tags(described["EndpointConfigArn"]), key=lambda tag: tag["Key"]) == tags


@pytest.mark.parametrize("kind", ["Model", "EndpointConfig", "Endpoint"])
def test_deleting_what_is_gone_is_no_error(sagemaker: SageMakerClient, kind: str) -> None:
    assert sagemaker.delete(kind, unique("none")) is False


def test_deleting_tells_that_it_was_there(local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient) -> None:
    name = config(local_sagemaker, "w")
    assert sagemaker.delete("EndpointConfig", name) is True
    assert sagemaker.delete("EndpointConfig", name) is False


def test_a_job_is_waited_for_and_then_listed_as_changed(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient
) -> None:
    before = datetime.now(UTC)
    request = training_job(local_sagemaker, "print('done')")
    name = request["TrainingJobName"]
    sagemaker.call("CreateTrainingJob", **request)
    deadline = before.timestamp() + 60
    answer, phase = sagemaker.wait("TrainingJob", name, check_interval=0.02, deadline=deadline)
    assert phase is Phase.SUCCEEDED
    assert answer is not None
    assert answer["TrainingJobStatus"] == "Completed"
    changed = dict(sagemaker.changed("TrainingJob", before - timedelta(seconds=1)))
    assert changed[name] == "Completed"
    assert name not in dict(sagemaker.changed("TrainingJob", datetime.now(UTC) + timedelta(hours=1)))


def test_waiting_for_what_is_gone_ends_at_once(sagemaker: SageMakerClient) -> None:
    assert sagemaker.wait("Endpoint", unique("none"), check_interval=600, deadline=4e9) == (None, Phase.GONE)


def test_a_wait_sleeps_its_interval_and_never_beyond_its_deadline(local_sagemaker: LocalSageMaker) -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    boto = client(local_sagemaker, "sagemaker")
    request = training_job(local_sagemaker, "import time; time.sleep(600)")
    boto.create_training_job(**request)
    try:
        waiting = SageMakerClient(boto, sleep=sleep)
        answer, phase = waiting.wait(
            "TrainingJob", request["TrainingJobName"], check_interval=30, deadline=70, clock=lambda: now[0]
        )
    finally:
        boto.stop_training_job(TrainingJobName=request["TrainingJobName"])
    assert phase is Phase.RUNNING
    assert answer is not None
    assert slept == [30, 30, 10]


@pytest.mark.parametrize(
    ("kind", "status", "phase"),
    [
        ("TrainingJob", "Stopping", Phase.RUNNING),
        ("TrainingJob", "Failed", Phase.FAILED),
        ("Endpoint", "InService", Phase.SUCCEEDED),
        ("Endpoint", "Deleting", Phase.RUNNING),
    ],
)
def test_a_status_is_read_in_the_table_of_its_kind(kind: str, status: str, phase: Phase) -> None:
    assert status_phase(kind, status) is phase


# Predictions.


@pytest.fixture(scope="module")
def endpoint(local_sagemaker: LocalSageMaker) -> Iterator[str]:
    name, boto = unique("invoke"), client(local_sagemaker, "sagemaker")
    boto.create_endpoint(EndpointName=name, EndpointConfigName=config(local_sagemaker, "w1", handler=HANDLER))
    assert settled(local_sagemaker, name)["EndpointStatus"] == "InService"
    yield name
    boto.delete_endpoint(EndpointName=name)


@pytest.fixture
def runtime(local_sagemaker: LocalSageMaker) -> RuntimeClient:
    return RuntimeClient(client(local_sagemaker, "sagemaker-runtime"))


def test_an_answer_comes_as_bytes_with_what_is_said_about_it(runtime: RuntimeClient, endpoint: str) -> None:
    body, answer = runtime.invoke(EndpointName=endpoint, Body=b'{"a": 1}', ContentType="application/json")
    assert json.loads(body) == {"model": "w1", "data": {"a": 1}}
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "AllTraffic"


def test_what_a_handler_raises_is_in_the_error(runtime: RuntimeClient, endpoint: str) -> None:
    with pytest.raises(
        errors.PredictionError, match=rf"endpoint '{endpoint}' answered 500: .*the handler raised"
    ) as caught:
        runtime.invoke(EndpointName=endpoint, Body=b'{"raise": 1}', ContentType="application/json")
    assert "handlers" in caught.value.remedy
    assert isinstance(caught.value.__cause__, ClientError)
    assert caught.value.retryable


def test_a_payload_that_the_model_refuses_is_not_worth_a_retry(
    local_sagemaker: LocalSageMaker, runtime: RuntimeClient
) -> None:
    refusing = """
def model_fn(model_dir):
    return "model"

def transform_fn(model, body, content_type, accept, context):
    context.set_response_status(422, "Unprocessable Entity")
    return "no seed", "text/plain"
"""
    name, boto = unique("refuse"), client(local_sagemaker, "sagemaker")
    boto.create_endpoint(EndpointName=name, EndpointConfigName=config(local_sagemaker, "w1", handler=refusing))
    try:
        assert settled(local_sagemaker, name)["EndpointStatus"] == "InService"
        with pytest.raises(errors.PredictionError, match="answered 422: no seed") as caught:
            runtime.invoke(EndpointName=name, Body=b"{}", ContentType="application/json")
        assert not caught.value.retryable
    finally:
        boto.delete_endpoint(EndpointName=name)


def test_an_endpoint_that_is_not_there_is_no_fault_of_a_model(runtime: RuntimeClient) -> None:
    with pytest.raises(errors.AwsError) as caught:
        runtime.invoke(EndpointName=unique("none"), Body=b"{}")
    assert not isinstance(caught.value, errors.PredictionError)
    assert not caught.value.retryable


@contextmanager
def answering(status: int, headers: dict[str, str], body: bytes) -> Iterator[str]:
    """A server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_that_breaks_off_is_worth_another_try() -> None:
    with answering(200, {"Content-Length": "100", "Content-Type": "text/plain"}, b"half") as url:
        session = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
        one_try = Config(retries={"total_max_attempts": 1})
        broken = RuntimeClient(session.client("sagemaker-runtime", endpoint_url=url, config=one_try))
        with pytest.raises(errors.ServiceFault):
            broken.invoke(EndpointName="e", Body=b"")


def test_a_request_that_has_no_form_is_told_without_what_may_be_secret(sagemaker: SageMakerClient) -> None:
    request = {"Environment": {"HF_TOKEN": 12345678}, "HyperParameters": {"epochs": 4}, "TrainingJobName": 5}
    with pytest.raises(errors.BadParameter) as error:
        sagemaker.validate("CreateTrainingJob", request)
    assert "Environment.HF_TOKEN, value: ***, type: <class 'int'>" in str(error.value)
    assert "TrainingJobName, value: 5" in str(error.value)
    assert "12345678" not in str(error.value)


def test_credentials_that_have_expired_are_renewed_once_for_each_call(local_sagemaker: LocalSageMaker) -> None:
    asked: list[bool] = []

    def connect(anew: bool) -> Any:
        asked.append(anew)
        return local_sagemaker.client("sagemaker")

    patient = SageMakerClient(connect=connect)
    for _ in range(2):
        with local_sagemaker.fault("expired", service="sagemaker", action="ListModels", times=1) as fault:
            assert patient.names("Model", "there-is-none") == []
            assert fault.rule["hits"] == 1
    assert asked == [False, True, True]
    with (
        local_sagemaker.fault("expired", service="sagemaker", action="ListModels", times=0),
        pytest.raises(errors.AccessDenied, match="ExpiredToken"),
    ):
        patient.names("Model", "there-is-none")


def test_a_look_bears_that_there_is_no_client_yet(local_sagemaker: LocalSageMaker) -> None:
    outages = 3

    def connect(anew: bool) -> Any:
        nonlocal outages
        if outages:
            outages -= 1
            raise errors.ServiceFault("AssumeRole got no answer.", operation="AssumeRole")
        return local_sagemaker.client("sagemaker")

    patient = SageMakerClient(connect=connect, sleep=lambda seconds: None)
    assert patient.look("Endpoint", "there-is-none", deadline=time.time() + 60) is None
    assert outages == 0


def test_a_look_bears_what_time_mends_until_its_deadline(local_sagemaker: LocalSageMaker) -> None:
    pauses: list[float] = []
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        pauses.append(seconds)
        now += seconds

    once = local_sagemaker.client("sagemaker", config=Config(retries={"total_max_attempts": 1}))
    patient = SageMakerClient(once, sleep=sleep)
    with local_sagemaker.fault("throttle", action="DescribeModel", times=3):
        assert patient.look("Model", "there-is-none", deadline=100.0, clock=lambda: now) is None
    assert pauses == [1.0, 2.0, 4.0]
    with local_sagemaker.fault("throttle", action="DescribeModel", times=0), pytest.raises(errors.Throttled):
        patient.look("Model", "there-is-none", deadline=100.0, clock=lambda: now)
    assert now == 100.0
