"""Signatures: botocore signs, our side verifies. Each case changes one thing."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from airflow_sm_git.local.auth import Caller, Request, Verifier
from airflow_sm_git.local.errors import ApiError

KEY, SECRET = "SMGITLOCAL0000000000", "secret"
VERIFIER = Verifier(KEY, SECRET, "us-east-1")
CODES = {
    "s3": ("InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "AccessDenied"),
    "sts": ("InvalidClientTokenId", "SignatureDoesNotMatch", "SignatureDoesNotMatch", "MissingAuthenticationToken"),
    "iam": ("InvalidClientTokenId", "SignatureDoesNotMatch", "SignatureDoesNotMatch", "MissingAuthenticationToken"),
    "logs": (
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
    ),
    "sagemaker": (
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
    ),
}
TARGETS = {"logs": "Logs_20140328.X", "sagemaker": "SageMaker.X"}


def signed(
    service: str,
    path: str = "/",
    *,
    body: bytes = b"{}",
    key: str = KEY,
    secret: str = SECRET,
    region: str = "us-east-1",
) -> Request:
    """A request as boto3 would send it."""
    headers = {"X-Amz-Target": TARGETS[service]} if service in TARGETS else {}
    request = AWSRequest("POST", f"http://127.0.0.1:1{path}", data=body, headers=headers)
    auth = S3SigV4Auth if service == "s3" else SigV4Auth
    auth(Credentials(key, secret), service, region).add_auth(request)
    return as_sent(request)


def as_sent(request: AWSRequest) -> Request:
    url = urlsplit(request.url)
    headers = {name.lower(): value for name, value in request.headers.items()} | {"host": url.netloc}
    return Request(request.method, url.path, url.query, tuple(headers.items()))


def refused(request: Request, body: bytes | None, now: datetime | None = None) -> ApiError:
    with pytest.raises(ApiError) as error:
        VERIFIER.verify(request, body, now)
    return error.value


def body_of(service: str) -> bytes | None:
    return None if service == "s3" else b"{}"


@pytest.mark.parametrize("service", CODES)
@pytest.mark.parametrize(
    "path", ["/", "/endpoints/a/invocations", "/bucket/a%20b/%C3%A4~x?list-type=2&prefix=a%2Fb&delete"]
)
def test_what_botocore_signs_is_accepted(service: str, path: str) -> None:
    caller = VERIFIER.verify(signed(service, path), body_of(service))
    assert (caller.service, caller.region) == (service, "us-east-1")
    assert isinstance(caller, Caller)


@pytest.mark.parametrize("service", CODES)
def test_each_refusal_has_the_services_own_name(service: str) -> None:
    body = body_of(service)
    key, signature, skew, missing = CODES[service]
    found = [
        refused(signed(service, key="SMGITLOCAL1111111111"), body),
        refused(signed(service, secret="other"), body),
        refused(signed(service), body, datetime.now(UTC) + timedelta(minutes=20)),
        refused(signed(service), body, datetime.now(UTC) - timedelta(minutes=20)),
    ]
    assert [(error.code, error.status) for error in found] == [(key, 403), (signature, 403), (skew, 403), (skew, 403)]
    if service in ("s3", *TARGETS):
        bare = signed(service)
        bare = replace(bare, headers=tuple(pair for pair in bare.headers if pair[0] != "authorization"))
        assert refused(bare, body).code == missing


def test_a_body_changed_after_signing_is_refused() -> None:
    assert refused(signed("sagemaker", body=b'{"a": 1}'), b'{"a": 2}').code == "InvalidSignatureException"


def test_the_body_is_hashed_whatever_hash_the_client_claims() -> None:
    claim = {"X-Amz-Target": "SageMaker.X", "X-Amz-Content-SHA256": hashlib.sha256(b'{"a": 1}').hexdigest()}
    request = AWSRequest("POST", "http://127.0.0.1:1/", data=b'{"a": 1}', headers=claim)
    SigV4Auth(Credentials(KEY, SECRET), "sagemaker", "us-east-1").add_auth(request)
    assert VERIFIER.verify(as_sent(request), b'{"a": 1}').service == "sagemaker"
    assert refused(as_sent(request), b'{"a": 2}').code == "InvalidSignatureException"


def test_the_hash_of_an_s3_body_is_handed_on_for_comparison() -> None:
    payload = VERIFIER.verify(signed("s3", body=b"hello"), None).payload
    assert payload == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.mark.parametrize(
    "change", [{"method": "PUT"}, {"path": "/other"}, {"query": "x=y"}], ids=["method", "path", "query"]
)
def test_a_changed_request_line_is_refused(change: dict[str, str]) -> None:
    assert refused(replace(signed("sagemaker"), **change), b"{}").code == "InvalidSignatureException"


def test_a_changed_header_is_refused() -> None:
    request = signed("sagemaker")
    headers = tuple((name, "SageMaker.Y" if name == "x-amz-target" else value) for name, value in request.headers)
    assert refused(replace(request, headers=headers), b"{}").code == "InvalidSignatureException"


def test_an_amz_header_added_to_an_s3_request_is_refused() -> None:
    request = signed("s3")
    added = replace(request, headers=(*request.headers, ("x-amz-meta-added", "later")))
    assert refused(added, None).code == "AccessDenied"


def test_a_signature_for_another_region_is_refused_by_naming_the_right_one() -> None:
    error = refused(signed("s3", region="eu-west-1"), None)
    assert (error.code, error.extra["Region"]) == ("AuthorizationHeaderMalformed", "us-east-1")
    assert "scoped to a valid region" in refused(signed("sagemaker", region="eu-west-1"), b"{}").message


def test_the_global_services_accept_their_own_region_from_everywhere() -> None:
    verifier = Verifier(KEY, SECRET, "eu-west-1")
    assert verifier.verify(signed("sts"), b"{}").region == "us-east-1"


@pytest.mark.parametrize("header", ["", "Basic abc", "AWS4-HMAC-SHA256 Credential=a/b", "AWS4-HMAC-SHA256 x"])
def test_a_malformed_authorization_is_refused_and_not_a_crash(header: str) -> None:
    request = signed("sagemaker")
    headers = tuple((name, header if name == "authorization" else value) for name, value in request.headers)
    assert refused(replace(request, headers=headers), b"{}").status in (400, 403)


def presigned(expires: int = 60) -> Request:
    request = AWSRequest("GET", "http://127.0.0.1:1/bucket/a%20b")
    S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", "us-east-1", expires=expires).add_auth(request)
    return as_sent(request)


def test_a_presigned_address_holds_until_it_expires() -> None:
    now = datetime.now(UTC)
    assert VERIFIER.verify(presigned(), None, now).service == "s3"
    error = refused(presigned(), None, now + timedelta(seconds=90))
    assert (error.code, error.message) == ("AccessDenied", "Request has expired")


def test_a_changed_presigned_address_is_refused() -> None:
    request = presigned()
    assert refused(replace(request, path="/bucket/other"), None).code == "SignatureDoesNotMatch"
    longer = replace(request, query=request.query.replace("X-Amz-Expires=60", "X-Amz-Expires=9999"))
    assert refused(longer, None).code == "SignatureDoesNotMatch"
