"""The server's edge: what it refuses whoever asks, how refusals look, and what the request log says."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from airflow_sm_git.local.pytest_plugin import LocalSageMaker, inspected_sagemaker

ClientFactory = Callable[..., Any]


def send(
    server: LocalSageMaker,
    target: str,
    body: bytes,
    *,
    signed_body: bytes | None = None,
    secret: str = "",
    sign: bool = True,
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """One JSON 1.1 request without a client library: status, headers and decoded body of the answer."""
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", f"{server.url}/", headers=headers, data=body if signed_body is None else signed_body)
    if sign:
        credentials = Credentials(server.info.access_key_id, secret or server.info.secret_access_key)
        SigV4Auth(credentials, "sagemaker" if target.startswith("Sage") else "logs", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", server.info.port, timeout=30)
    try:
        connection.request("POST", "/", body, dict(request.headers))
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(answer.read() or b"{}")
    finally:
        connection.close()


def test_health_needs_no_signature(local_sagemaker: LocalSageMaker) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", local_sagemaker.info.port, timeout=30)
    connection.request("GET", "/health")
    assert json.loads(connection.getresponse().read()) == {"ok": True, "pid": local_sagemaker.info.pid}
    connection.close()


def test_the_server_listens_on_the_loopback_only(local_sagemaker: LocalSageMaker) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", local_sagemaker.info.port))


@pytest.mark.parametrize("target", ["SageMaker.ListModels", "Logs_20140328.DescribeLogGroups"])
def test_a_wrong_secret_a_changed_body_and_no_signature_get_403(local_sagemaker: LocalSageMaker, target: str) -> None:
    assert send(local_sagemaker, target, b"{}")[0] == 200
    for options, code in (
        ({"secret": "wrong"}, "InvalidSignatureException"),
        ({"signed_body": b'{"MaxResults": 1}'}, "InvalidSignatureException"),
        ({"sign": False}, "MissingAuthenticationTokenException"),
    ):
        status, headers, body = send(local_sagemaker, target, b"{}", **options)
        assert (status, headers["x-amzn-errortype"], body["__type"]) == (403, code, code)


def test_an_s3_body_changed_after_signing_stores_nothing(local_sagemaker: LocalSageMaker) -> None:
    s3 = local_sagemaker.client("s3", config=Config(request_checksum_calculation="when_required"))
    bucket = f"test-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=bucket)

    def swap(request: Any, **_: Any) -> None:
        request.body = b"swapped"

    s3.meta.events.register("before-send.s3.PutObject", swap)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"genuine")
    assert error.value.response["Error"]["Code"] == "XAmzContentSHA256Mismatch"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("target", ["SageMaker.ListModels", "Logs_20140328.DescribeLogGroups"])
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000])
def test_a_body_nested_too_deeply_is_refused(local_sagemaker: LocalSageMaker, target: str, body: bytes) -> None:
    status, _, answer = send(local_sagemaker, target, body)
    assert (status, answer["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(local_sagemaker: LocalSageMaker, body: bytes) -> None:
    status, _, answer = send(local_sagemaker, "SageMaker.ListModels", body)
    assert (status, answer["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize(
    "target", ["SageMaker.Nothing", "Logs_20140328.Nothing", "SageMaker.", "SageMakerOther.ListModels"]
)
def test_an_unknown_action_is_refused(local_sagemaker: LocalSageMaker, target: str) -> None:
    status, _, answer = send(local_sagemaker, target, b"{}")
    assert (status, answer["__type"]) == (400, "UnknownOperationException")


def test_a_service_that_is_not_served_is_named(ours: ClientFactory) -> None:
    with pytest.raises(ClientError, match="not sqs"):
        ours("sqs").list_queues()


def test_every_answer_carries_a_request_id(ours: ClientFactory) -> None:
    answers = [ours("s3").list_buckets(), ours("sts").get_caller_identity(), ours("logs").describe_log_groups()]
    identifiers = [answer["ResponseMetadata"]["RequestId"] for answer in answers]
    assert len(set(identifiers)) == 3 and all(identifiers)


def test_each_request_is_one_line_of_the_log(local_sagemaker: LocalSageMaker) -> None:
    name = f"/test/{uuid.uuid4().hex}"
    logs = local_sagemaker.client("logs")
    before = len(local_sagemaker.requests())
    logs.create_log_group(logGroupName=name)
    with pytest.raises(ClientError):
        logs.create_log_group(logGroupName=name)
    lines = local_sagemaker.requests()[before:]
    told = [{key: line[key] for key in ("service", "action", "resource", "status", "error")} for line in lines]
    call = {"service": "logs", "action": "CreateLogGroup", "resource": name}
    assert told == [
        {**call, "status": 200, "error": None},
        {**call, "status": 400, "error": "ResourceAlreadyExistsException"},
    ]


def test_a_refused_upload_leaves_the_connection_usable(ours: ClientFactory) -> None:
    s3 = ours("s3", config=Config(max_pool_connections=1, retries={"total_max_attempts": 1}))
    for _ in range(5):
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket="missing-bucket", Key="k", Body=b"x" * 100_000)
        assert error.value.response["Error"]["Code"] == "NoSuchBucket"
        assert s3.list_buckets()["Buckets"]


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[LocalSageMaker]:
    """A server of one's own, into which nobody else writes."""
    with inspected_sagemaker(tmp_path / "state") as server:
        yield server


def test_a_client_that_goes_away_in_the_middle_leaves_no_blob(quiet: LocalSageMaker) -> None:
    local_sagemaker = quiet
    s3 = local_sagemaker.client("s3")
    bucket = "sagemaker-us-east-1-000000000000"
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "partial"})
    v4 = local_sagemaker.client("s3", config=Config(signature_version="s3v4"))
    url = v4.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "partial"})
    path = url.removeprefix(local_sagemaker.url)
    blobs = local_sagemaker.root / "s3" / "blobs"
    before = {path.name for path in blobs.glob("*/*")}
    with socket.create_connection(("127.0.0.1", local_sagemaker.info.port), timeout=30) as client:
        head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{local_sagemaker.info.port}\r\nContent-Length: 9000000\r\n\r\n"
        client.sendall(head.encode() + bytes(3_000_000))
    gone = threading.Event()
    for _ in range(1200):
        if {path.name for path in blobs.glob("*/*")} <= before:
            break
        gone.wait(0.05)
    assert {path.name for path in blobs.glob("*/*")} <= before
    with pytest.raises(ClientError):
        s3.head_object(Bucket=bucket, Key="partial")


def test_requests_are_answered_side_by_side(local_sagemaker: LocalSageMaker) -> None:
    s3 = local_sagemaker.client("s3")
    bucket = f"test-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=bucket)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                s3.put_object(Bucket=bucket, Key="shared", Body=str(number).encode() * 1000)
                body = s3.get_object(Bucket=bucket, Key="shared")["Body"].read()
                assert len(set(body)) == 1 and len(body) == 1000, turn
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
