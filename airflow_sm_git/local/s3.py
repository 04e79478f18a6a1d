"""The S3 endpoint (path style): which operation a request is, and what all operations have in common.

Source: Amazon S3 API reference. What is not in :data:`_OPERATIONS` is refused by name, never half done.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from starlette.responses import Response

from airflow_sm_git.local import ingest, s3_buckets, s3_copy, s3_multipart, s3_objects
from airflow_sm_git.local.errors import api_error
from airflow_sm_git.local.exchange import Exchange
from airflow_sm_git.local.objects import ObjectStore
from airflow_sm_git.local.s3_call import S3Call
from airflow_sm_git.local.state import Info

_XML_LIMIT = 4 << 20
_NAME = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# Query parameters that say nothing about which operation is meant.
_PLAIN = re.compile(
    r"x-id|X-Amz-.*|response-.*|prefix|delimiter|marker|max-keys|encoding-type|start-after|fetch-owner"
    r"|continuation-token|uploadId|part-number-marker|max-parts|key-marker|upload-id-marker"
    r"|max-uploads|bucket-region|max-buckets"
)
_REFUSED = re.compile(
    r"x-amz-(tagging|grant-.*|object-lock-.*|bucket-object-lock-.*|website-redirect-location"
    r"|server-side-encryption-customer-.*|copy-source-server-side-.*|mfa|write-offset-bytes"
    r"|object-attributes|rename-source.*|metadata-directive-.*|tagging-directive)"
)


@dataclass(frozen=True)
class _Operation:
    """One row: method, level and the query parameters that mark it, then its name and its handler."""

    method: str
    level: str
    marks: frozenset[str]
    name: str
    handler: Callable[[S3Call], Response]
    streams: bool = False
    header: str = ""


def _op(
    what: str, name: str, handler: Callable[[S3Call], Response], *, streams: bool = False, header: str = ""
) -> _Operation:
    method, level, *marks = what.split()
    return _Operation(method, level, frozenset(marks), name, handler, streams, header)


_OPERATIONS = (
    _op("GET root", "ListBuckets", s3_buckets.list_buckets),
    _op("PUT bucket", "CreateBucket", s3_buckets.create),
    _op("HEAD bucket", "HeadBucket", s3_buckets.head),
    _op("DELETE bucket", "DeleteBucket", s3_buckets.delete),
    _op("GET bucket location", "GetBucketLocation", s3_buckets.location),
    _op("GET bucket", "ListObjects", s3_buckets.list_objects),
    _op("GET bucket list-type", "ListObjectsV2", s3_buckets.list_objects_v2),
    _op("POST bucket delete", "DeleteObjects", s3_objects.delete_many),
    _op("GET bucket uploads", "ListMultipartUploads", s3_multipart.list_uploads),
    _op("PUT object", "CopyObject", s3_copy.copy, header="x-amz-copy-source"),
    _op("PUT object", "PutObject", s3_objects.put, streams=True),
    _op("GET object", "GetObject", s3_objects.get),
    _op("HEAD object", "HeadObject", s3_objects.head),
    _op("DELETE object", "DeleteObject", s3_objects.delete),
    _op("POST object uploads", "CreateMultipartUpload", s3_multipart.create),
    _op("PUT object uploadId partNumber", "UploadPartCopy", s3_copy.upload_part_copy, header="x-amz-copy-source"),
    _op("PUT object uploadId partNumber", "UploadPart", s3_multipart.upload_part, streams=True),
    _op("POST object uploadId", "CompleteMultipartUpload", s3_multipart.complete),
    _op("DELETE object uploadId", "AbortMultipartUpload", s3_multipart.abort),
    _op("GET object uploadId", "ListParts", s3_multipart.list_parts),
)


class S3:
    """Answers S3 requests from one store.

    :param pool: where everything that may touch the disk runs.
    """

    def __init__(self, store: ObjectStore, info: Info, pool: Executor) -> None:
        self._store = store
        self._info = info
        self._pool = pool

    async def handle(self, exchange: Exchange, begin: Callable[[Exchange], None]) -> Response:
        """The answer to one request.

        :param begin: called in a thread once it is known what is asked; what it raises is raised.

        :raises ApiError: the refusal.
        """
        loop = asyncio.get_running_loop()
        call, operation = self._parse(exchange)
        await loop.run_in_executor(self._pool, begin, exchange)
        self._check_owner(call)
        if not operation.streams:
            call.body = await exchange.body(_XML_LIMIT)
            return await loop.run_in_executor(self._pool, operation.handler, call)
        await loop.run_in_executor(self._pool, self._store.require_bucket, call.bucket)
        with self._store.incoming(ingest.checksum_algorithm(exchange)) as blob:
            call.blob = blob
            call.checksum = await ingest.ingest(exchange, blob, self._pool)
            return await loop.run_in_executor(self._pool, operation.handler, call)

    def _parse(self, exchange: Exchange) -> tuple[S3Call, _Operation]:
        request = exchange.request
        try:
            bucket, _, key = unquote(request.path.lstrip("/"), errors="strict").partition("/")
            query = dict(parse_qsl(request.query, keep_blank_values=True, errors="strict"))
        except UnicodeDecodeError:
            raise api_error("s3.invalid_uri") from None
        level = "object" if key else "bucket" if bucket else "root"
        exchange.resource = f"{bucket}/{key}" if key else bucket
        marks = {name for name in query if not _PLAIN.fullmatch(name)} | (query.keys() & {"uploadId"})
        operation = _find(request.method, level, marks, {name for name, _ in request.headers})
        exchange.action = operation.name
        if bucket and not _NAME.fullmatch(bucket):
            raise api_error("s3.bucket_name", {"BucketName": bucket})
        if len(key.encode()) > 1024:
            raise api_error("s3.key_too_long")
        return S3Call(exchange, self._store, self._info, bucket, key, query), operation

    def _check_owner(self, call: S3Call) -> None:
        for name in ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"):
            if (owner := call.header(name)) and owner != self._info.account:
                raise api_error("s3.denied")


def _find(method: str, level: str, marks: set[str], headers: set[str]) -> _Operation:
    for operation in _OPERATIONS:
        if (operation.method, operation.level, operation.marks) != (method, level, frozenset(marks)):
            continue
        if operation.header and operation.header not in headers:
            continue
        if refused := sorted(name for name in headers if _REFUSED.fullmatch(name)):
            raise api_error("s3.not_implemented", what=f"the header {refused[0]} of {operation.name}")
        return operation
    what = f"{method} on {'an' if level == 'object' else 'the' if level == 'root' else 'a'} {level}"
    raise api_error("s3.not_implemented", what=f"{what} with ?{'&'.join(sorted(marks))}" if marks else what)
