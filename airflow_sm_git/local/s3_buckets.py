"""S3 operations on buckets: create, look, list, delete.

Source: Amazon S3 API reference, the operations' own pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.responses import Response

from airflow_sm_git.local import wire
from airflow_sm_git.local.errors import api_error
from airflow_sm_git.local.objects import ObjectInfo
from airflow_sm_git.local.s3_call import S3Call


def list_buckets(call: S3Call) -> Response:
    """ListBuckets."""
    buckets: list[wire.Node] = [{"Name": name, "CreationDate": wire.iso(at)} for name, at in call.store.buckets()]
    owner = {"ID": call.info.account, "DisplayName": "sm-git-local"}
    return wire.xml_response("ListAllMyBucketsResult", {"Owner": owner, "Buckets": {"Bucket": buckets}})


def create(call: S3Call) -> Response:
    """CreateBucket. In us-east-1 one's own bucket may be made again, elsewhere it may not."""
    region = "us-east-1"
    if call.body.strip():
        region = call.xml("CreateBucketConfiguration").findtext("LocationConstraint") or region
    if region != call.info.region:
        raise api_error("s3.location", region=region)
    made = call.store.create_bucket(call.bucket)
    if not made and region != "us-east-1":
        raise api_error("s3.bucket_owned", {"BucketName": call.bucket})
    return Response(None, 200, {"Location": f"/{call.bucket}"})


def head(call: S3Call) -> Response:
    """HeadBucket."""
    call.store.require_bucket(call.bucket)
    return Response(None, 200, {"x-amz-bucket-region": call.info.region})


def delete(call: S3Call) -> Response:
    """DeleteBucket."""
    call.store.delete_bucket(call.bucket)
    return Response(None, 204)


def location(call: S3Call) -> Response:
    """GetBucketLocation: empty for us-east-1."""
    call.store.require_bucket(call.bucket)
    region = "" if call.info.region == "us-east-1" else call.info.region
    return wire.xml_response("LocationConstraint", region)


@dataclass
class _Page:
    objects: list[ObjectInfo] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    last: str = ""
    truncated: bool = False


def _page(items: Iterator[ObjectInfo], prefix: str, delimiter: str, after: str, most: int) -> _Page:
    """At most ``most`` keys and common prefixes that come after ``after``."""
    page = _Page()
    for item in items:
        cut = item.key.find(delimiter, len(prefix)) if delimiter else -1
        common = item.key[: cut + len(delimiter)] if cut >= 0 else ""
        if common and (common == page.last or (after and after.startswith(common))):
            continue
        if len(page.objects) + len(page.prefixes) == most:
            page.truncated = most > 0
            break
        page.last = common or item.key
        if common:
            page.prefixes.append(common)
        else:
            page.objects.append(item)
    return page


def list_objects_v2(call: S3Call) -> Response:
    """ListObjectsV2."""
    call.number("list-type", 2, 2, 2)
    token = call.query.get("continuation-token", "")
    after = _untoken(token) if token else call.query.get("start-after", "")
    page, shown = _listing(call, after)
    body = {
        **shown,
        "KeyCount": len(page.objects) + len(page.prefixes),
        "ContinuationToken": token or None,
        "StartAfter": _encoder(call)(call.query["start-after"]) if call.query.get("start-after") else None,
        "NextContinuationToken": _token(page.last) if page.truncated else None,
    }
    return wire.xml_response("ListBucketResult", body)


def list_objects(call: S3Call) -> Response:
    """ListObjects, the first version."""
    marker = call.query.get("marker", "")
    page, shown = _listing(call, marker)
    encode = _encoder(call)
    following = encode(page.last) if page.truncated and call.query.get("delimiter") else None
    return wire.xml_response("ListBucketResult", {**shown, "Marker": encode(marker), "NextMarker": following})


def _listing(call: S3Call, after: str) -> tuple[_Page, dict[str, wire.Node]]:
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    most = call.number("max-keys", 1000)
    page = _page(call.store.list(call.bucket, prefix, after), prefix, delimiter, after, min(most, 1000))
    encode = _encoder(call)
    shown: dict[str, wire.Node] = {
        "Name": call.bucket,
        "Prefix": encode(prefix),
        "Delimiter": encode(delimiter) if delimiter else None,
        "MaxKeys": most,
        "EncodingType": call.query.get("encoding-type"),
        "IsTruncated": page.truncated,
        "Contents": [_content(item, encode) for item in page.objects],
        "CommonPrefixes": [{"Prefix": encode(common)} for common in page.prefixes],
    }
    return page, shown


def _content(item: ObjectInfo, encode: Callable[[str], str]) -> dict[str, wire.Node]:
    return {
        "Key": encode(item.key),
        "LastModified": wire.iso(item.modified),
        "ETag": f'"{item.etag}"',
        "Size": item.size,
        "StorageClass": "STANDARD",
    }


def _encoder(call: S3Call) -> Callable[[str], str]:
    kind = call.query.get("encoding-type", "")
    if kind not in ("", "url"):
        raise api_error("s3.invalid_argument", reason="Invalid Encoding Method specified in Request")
    return _url if kind else str


def _url(text: str) -> str:
    return quote(text, safe="/*-._~")


def _token(key: str) -> str:
    return key.encode().hex()


def _untoken(token: str) -> str:
    try:
        return bytes.fromhex(token).decode()
    except ValueError:
        raise api_error("s3.invalid_argument", reason="The continuation token provided is incorrect") from None
