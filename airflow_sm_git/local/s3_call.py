"""What an S3 operation is called with, and the headers that several operations read or write alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from xml.etree import ElementTree

from airflow_sm_git.local import wire
from airflow_sm_git.local.errors import api_error
from airflow_sm_git.local.exchange import Exchange
from airflow_sm_git.local.objects import About, Blob, ObjectMeta, ObjectStore
from airflow_sm_git.local.state import Info

_META = "x-amz-meta-"
# Kept with the object and given back. Encryption and storage class are kept too: nothing here is encrypted or tiered.
_KEPT = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-amz-storage-class",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-server-side-encryption-context",
)
_NOT_IN_HEADERS = re.compile(r"[^\t\x20-\x7e\x80-\xff]")  # RFC 9110, 5.5
ENCRYPTION = "x-amz-server-side-encryption"


@dataclass
class S3Call:
    """One S3 request, taken apart.

    :param body: the body of a small request.
    :param blob: the body of a large one.
    :param checksum: the verified checksum of ``blob``, base64.
    """

    exchange: Exchange
    store: ObjectStore
    info: Info
    bucket: str
    key: str
    query: Mapping[str, str]
    body: bytes = b""
    blob: Blob | None = None
    checksum: str | None = None

    def header(self, name: str) -> str:
        """A request header; empty where there is none."""
        return self.exchange.request.header(name)

    def number(self, name: str, default: int, low: int = 0, high: int = 2**31 - 1) -> int:
        """A number in the query.

        :raises ApiError: InvalidArgument.
        """
        text = self.query.get(name) or str(default)
        if not text.isdecimal() or not low <= int(text) <= high:
            raise api_error(
                "s3.invalid_argument",
                {"ArgumentName": name, "ArgumentValue": text},
                reason=f"Provided {name} not an integer or within integer range",
            )
        return int(text)

    def about(self) -> About:
        """What the request says about the object that it brings.

        :raises ApiError: NotImplemented, for an access control list other than the default.
        """
        acl = self.header("x-amz-acl")
        if acl not in ("", "private", "bucket-owner-full-control"):
            raise api_error("s3.not_implemented", what=f"the access control list {acl}")
        headers = {name: value for name in _KEPT if (value := self.header(name))}
        if encoding := headers.pop("content-encoding", ""):
            rest = [word.strip() for word in encoding.split(",") if word.strip() != "aws-chunked"]
            headers.update({"content-encoding": ",".join(rest)} if rest else {})
        names = {name for name, _ in self.exchange.request.headers if name.startswith(_META)}
        metadata = {name.removeprefix(_META): self.header(name) for name in sorted(names)}
        about = About(self.header("content-type") or "binary/octet-stream", metadata, headers)
        if self.blob and self.blob.checksum and self.checksum:
            about = replace(about, checksum=(self.blob.checksum.algorithm, self.checksum))
        return about

    def write_condition(self, now: ObjectMeta | None) -> None:
        """Hold ``If-None-Match: *`` and ``If-Match`` against what is there.

        :raises ApiError: PreconditionFailed, NoSuchKey, or NotImplemented for another form.
        """
        unless, only = self.header("if-none-match"), self.header("if-match")
        if unless not in ("", "*"):
            raise api_error(
                "s3.not_implemented", {"Header": "If-None-Match"}, what="If-None-Match with an ETag on a write"
            )
        if unless and now:
            raise api_error("s3.precondition", {"Condition": "If-None-Match"})
        if only and not now:
            raise api_error("s3.no_key", {"Key": self.key})
        if only and now and not _matches(only, now):
            raise api_error("s3.precondition", {"Condition": "If-Match"})

    def read_condition(self, now: ObjectMeta, prefix: str = "") -> None:
        """Hold a read's conditions against the object (RFC 9110, 13.2.2: the ETag decides before the date).

        :param prefix: of the headers' names: ``x-amz-copy-source-`` for a copy's source.
        :raises ApiError: PreconditionFailed, NotModified.
        """
        match, none = self.header(f"{prefix}if-match"), self.header(f"{prefix}if-none-match")
        unmodified, modified = self.header(f"{prefix}if-unmodified-since"), self.header(f"{prefix}if-modified-since")
        refused = "s3.precondition" if prefix else "s3.not_modified"
        if match and not _matches(match, now):
            raise api_error("s3.precondition", {"Condition": "If-Match"})
        if not match and unmodified and int(now.modified) > _seconds(unmodified):
            raise api_error("s3.precondition", {"Condition": "If-Unmodified-Since"})
        if none and _matches(none, now):
            raise api_error(refused)
        if not none and modified and int(now.modified) <= _seconds(modified):
            raise api_error(refused)

    def xml(self, root: str) -> ElementTree.Element:
        """The request's XML, without namespaces.

        :raises ApiError: MalformedXML.
        """
        if b"<!DOCTYPE" in self.body or b"<!ENTITY" in self.body:
            raise api_error("s3.malformed_xml")
        try:
            tree = ElementTree.fromstring(self.body)  # noqa: S314 (no document type, hence no entities)
        except ElementTree.ParseError:
            raise api_error("s3.malformed_xml") from None
        for element in tree.iter():
            element.tag = element.tag.rpartition("}")[2]
        if tree.tag != root:
            raise api_error("s3.malformed_xml")
        return tree


def written_headers(meta: ObjectMeta) -> dict[str, str]:
    """The headers that answer a write."""
    headers = {"ETag": f'"{meta.etag}"', ENCRYPTION: "AES256"}
    headers |= {name: value for name, value in meta.about.headers.items() if name.startswith(ENCRYPTION)}
    return headers | checksum_headers(meta)


def checksum_headers(meta: ObjectMeta) -> dict[str, str]:
    """The headers that show an object's checksum."""
    if not meta.about.checksum:
        return {}
    algorithm, value = meta.about.checksum
    return {f"x-amz-checksum-{algorithm}": value, "x-amz-checksum-type": meta.about.checksum_type}


def read_headers(call: S3Call, meta: ObjectMeta, *, partial: bool) -> dict[str, str]:
    """The headers that answer a read, without its length and range. A part has no checksum: it is the whole's.

    :raises ApiError: InvalidArgument, where the query wants a header that HTTP cannot carry.
    """
    headers = {
        "Accept-Ranges": "bytes",
        "Last-Modified": wire.http_date(meta.modified),
        "ETag": f'"{meta.etag}"',
        "Content-Type": meta.about.content_type,
        ENCRYPTION: "AES256",
        **meta.about.headers,
        **{f"{_META}{name}": value for name, value in meta.about.metadata.items()},
    }
    if call.header("x-amz-checksum-mode").upper() == "ENABLED" and not partial:
        headers |= checksum_headers(meta)
    overrides = {name.removeprefix("response-"): value for name, value in call.query.items() if name[:9] == "response-"}
    for name, value in overrides.items():
        if _NOT_IN_HEADERS.search(value):
            raise api_error(
                "s3.invalid_argument",
                {"ArgumentName": f"response-{name}"},  # XML cannot carry every value either
                reason="Header value cannot be represented using ISO-8859-1.",
            )
    return {name: value for name, value in headers.items() if name.lower() not in overrides} | overrides


def _matches(header: str, meta: ObjectMeta) -> bool:
    return any(tag.strip().removeprefix("W/").strip('"') in (meta.etag, "*") for tag in header.split(","))


def _seconds(date: str) -> int:
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except ValueError:
        raise api_error("s3.invalid_argument", reason=f"{date} is not a date of HTTP") from None
