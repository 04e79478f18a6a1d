"""Signature Version 4, the verifying side: in the ``Authorization`` header or, for S3, in the query string.

Source: AWS Identity and Access Management User Guide, "Create a signed AWS API request"; Amazon S3 API reference,
"Authenticating Requests" (header, query parameters, chunked uploads).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

from airflow_sm_git.local.errors import ApiError, api_error

SKEW = timedelta(minutes=5)
S3_SKEW = timedelta(minutes=15)
UNSIGNED = "UNSIGNED-PAYLOAD"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_ALGORITHM = "AWS4-HMAC-SHA256"
_GLOBAL = ("sts", "iam")
_FIELD = re.compile(r"(Credential|SignedHeaders|Signature)=([^,\s]+)")


@dataclass(frozen=True)
class Request:
    """What of an HTTP request is signed.

    :param path: the path as it came, percent-encoded.
    :param query: the query string as it came.
    :param headers: names in lower case, with their values, in order.
    """

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str:
        """The values of a header, joined as the signature has them; empty where there is none."""
        return ",".join(" ".join(value.split()) for key, value in self.headers if key == name)


@dataclass(frozen=True)
class Caller:
    """Who asks, and whom. ``payload`` is the body's SHA-256 as signed (hex), or one of S3's special values."""

    service: str
    region: str
    payload: str


@dataclass(frozen=True)
class _Claim:
    key_id: str
    day: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str
    at: str
    lifetime: timedelta | None = None


def family(service: str) -> str:
    """Which names of errors a service uses: ``s3``, ``query`` (STS, IAM) or ``json``."""
    return "s3" if service == "s3" else "query" if service in _GLOBAL else "json"


def claimed_service(request: Request) -> str:
    """The service that a request says it is for; ``s3`` where it does not say (anonymous requests go to S3)."""
    found = re.search(r"/([a-z0-9-]+)/aws4_request", request.header("authorization"))
    if found or request.header("x-amz-target"):
        return found[1] if found else request.header("x-amz-target").partition("_")[0].partition(".")[0].lower()
    return "sagemaker" if request.path.startswith("/endpoints/") else "s3"


class Verifier:
    """Checks requests against one key.

    :param region: the region this server is in; requests signed for another one are refused, as on AWS.
    """

    def __init__(self, key_id: str, secret: str, region: str) -> None:
        self._key_id = key_id
        self._secret = secret
        self._region = region

    def verify(self, request: Request, body: bytes | None, now: datetime | None = None) -> Caller:
        """Who signed the request.

        :param body: the whole body, whose hash must be the signed one; None for S3, whose bodies are hashed while
            they stream (the caller compares with ``Caller.payload``).
        :param now: the time, for tests.
        :raises ApiError: the refusal, by the name that the service gives it.
        """
        if "AWSAccessKeyId=" in request.query:
            raise api_error("s3.old_signature")
        claim = _from_query(request) if "X-Amz-Signature=" in request.query else _from_header(request)
        names = family(claim.service)
        if not hmac.compare_digest(claim.key_id, self._key_id):
            raise api_error(f"{names}.bad_key")
        self._check_region(claim, names)
        _check_time(claim, names, now or datetime.now(UTC))
        payload = _payload(request, claim, body)
        if not hmac.compare_digest(self._signature(request, claim, payload), claim.signature):
            raise api_error(f"{names}.bad_signature")
        _check_signed_headers(request, claim, names)
        return Caller(claim.service, claim.region, payload)

    def _check_region(self, claim: _Claim, names: str) -> None:
        allowed = {self._region, "us-east-1"} if claim.service in _GLOBAL else {self._region}
        if claim.region in allowed:
            return
        if names == "s3":
            reason = f"the region '{claim.region}' is wrong; expecting '{self._region}'"
            raise api_error("s3.malformed_auth", {"Region": self._region}, reason=reason)
        error = api_error(f"{names}.bad_signature")
        text = f"Credential should be scoped to a valid region, not '{claim.region}'. This server is {self._region}."
        raise ApiError(error.code, text, error.status)

    def _signature(self, request: Request, claim: _Claim, payload: str) -> str:
        headers = "".join(f"{name}:{request.header(name)}\n" for name in claim.signed)
        # S3 signs the path as sent; every other service signs the sent path, encoded once more.
        path = request.path if claim.service == "s3" else quote(request.path, safe="/~")
        query = _canonical_query(request.query)
        canonical = "\n".join((request.method, path or "/", query, headers, ";".join(claim.signed), payload))
        scope = f"{claim.day}/{claim.region}/{claim.service}/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join((_ALGORITHM, claim.at, scope, digest))
        key = f"AWS4{self._secret}".encode()
        for step in (claim.day, claim.region, claim.service, "aws4_request", text):
            key = hmac.digest(key, step.encode(), "sha256")
        return key.hex()


def _from_header(request: Request) -> _Claim:
    header = request.header("authorization")
    names = family(claimed_service(request))
    if not header:
        raise api_error(f"{names}.no_auth")
    fields = dict(_FIELD.findall(header))
    scope = fields.get("Credential", "").split("/")
    if not header.startswith(_ALGORITHM) or len(fields) != 3 or len(scope) != 5:
        raise api_error(f"{names}.malformed_auth", reason="Authorization header must be AWS4-HMAC-SHA256 and complete.")
    at = request.header("x-amz-date") or _http_date(request.header("date"))
    key_id, day, region, service, _ = scope
    return _Claim(key_id, day, region, service, tuple(fields["SignedHeaders"].split(";")), fields["Signature"], at)


def _from_query(request: Request) -> _Claim:
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    scope = query.get("X-Amz-Credential", "").split("/")
    lifetime = query.get("X-Amz-Expires", "")
    if query.get("X-Amz-Algorithm") != _ALGORITHM or len(scope) != 5 or not lifetime.isdecimal():
        raise api_error("s3.malformed_auth", reason="the query parameters of the signature are not complete.")
    signed = tuple(query.get("X-Amz-SignedHeaders", "").split(";"))
    expires = timedelta(seconds=min(int(lifetime), 604_800))
    key_id, day, region, service, _ = scope
    return _Claim(key_id, day, region, service, signed, query["X-Amz-Signature"], query.get("X-Amz-Date", ""), expires)


def _http_date(value: str) -> str:
    try:
        return datetime.strptime(value, "%a, %d %b %Y %H:%M:%S GMT").strftime("%Y%m%dT%H%M%SZ")
    except ValueError:
        return ""


def _check_time(claim: _Claim, names: str, now: datetime) -> None:
    try:
        at = datetime.strptime(claim.at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise api_error(f"{names}.malformed_auth", reason="x-amz-date is missing or malformed.") from None
    if claim.lifetime is not None:
        if not at - S3_SKEW <= now <= at + claim.lifetime:
            raise api_error("s3.expired")
        return
    if abs(now - at) > (S3_SKEW if names == "s3" else SKEW):
        bound = now - SKEW if at < now else now + SKEW
        word, order = ("expired", "earlier") if at < now else ("not yet current", "later")
        text = f"Signature {word}: {claim.at} is now {order} than {bound:%Y%m%dT%H%M%SZ} ({now:%Y%m%dT%H%M%SZ} "
        raise api_error(f"{names}.skewed", reason=f"{text}{'-' if at < now else '+'} 5 min.)")


def _payload(request: Request, claim: _Claim, body: bytes | None) -> str:
    if claim.lifetime is not None:
        return UNSIGNED
    if claim.service == "s3":
        return request.header("x-amz-content-sha256") or UNSIGNED
    return hashlib.sha256(body or b"").hexdigest()


def _check_signed_headers(request: Request, claim: _Claim, names: str) -> None:
    unsigned = {name for name, _ in request.headers if name.startswith("x-amz-")} - set(claim.signed)
    if "host" in claim.signed and not (unsigned and names == "s3"):
        return
    key = "s3.unsigned_headers" if names == "s3" else f"{names}.malformed_auth"
    raise api_error(key, reason="'Host' must be a 'SignedHeader' in the AWS Authorization.")


def _canonical_query(query: str) -> str:
    pairs = (part.partition("=") for part in query.split("&") if part and not part.startswith("X-Amz-Signature="))
    return "&".join(f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs))


def lower(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """ASGI headers as :class:`Request` wants them."""
    return tuple((name.decode("latin-1").lower(), value.decode("utf-8", "replace")) for name, value in headers)
