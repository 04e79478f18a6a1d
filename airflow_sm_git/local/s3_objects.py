"""S3 operations on single objects.

Source: Amazon S3 API reference, the operations' own pages; ranges after RFC 9110, section 14.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response, StreamingResponse

from airflow_sm_git.local import wire
from airflow_sm_git.local.errors import api_error
from airflow_sm_git.local.s3_call import S3Call, read_headers, written_headers

_PIECE = 1 << 18
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def put(call: S3Call) -> Response:
    """PutObject."""
    assert call.blob  # noqa: S101 (the operation table says that this operation streams)
    meta = call.store.commit(call.bucket, call.key, call.blob, call.about(), condition=call.write_condition)
    return Response(None, 200, written_headers(meta))


def head(call: S3Call) -> Response:
    """HeadObject."""
    meta = call.store.head(call.bucket, call.key)
    call.read_condition(meta)
    _, length, headers = _span(call, meta.size)
    headers |= read_headers(call, meta, partial=bool(headers)) | {"Content-Length": str(length)}
    return Response(None, 206 if "Content-Range" in headers else 200, headers)


def get(call: S3Call) -> Response:
    """GetObject."""
    file, meta = call.store.open_read(call.bucket, call.key)
    try:
        call.read_condition(meta)
        start, length, headers = _span(call, meta.size)
        headers |= read_headers(call, meta, partial=bool(headers)) | {"Content-Length": str(length)}
        status = 206 if "Content-Range" in headers else 200
        file.seek(start)
        if length <= _PIECE:
            data = file.read(length)
            file.close()
            return Response(data, status, headers)
    except BaseException:
        file.close()
        raise
    return _Download(file, length, status, headers)


class _Download(StreamingResponse):
    """Bytes of a file, a piece at a time; the file is closed however the answer ends."""

    def __init__(self, file: BinaryIO, length: int, status: int, headers: dict[str, str]) -> None:
        self._file = file
        super().__init__(iterate_in_threadpool(_pieces(file, length)), status, headers)

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def _pieces(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length and (data := file.read(min(_PIECE, length))):
        length -= len(data)
        yield data


def delete(call: S3Call) -> Response:
    """DeleteObject."""
    if call.header("if-match"):
        raise api_error("s3.not_implemented", what="the header if-match of DeleteObject")
    call.store.delete(call.bucket, call.key)
    return Response(None, 204)


def delete_many(call: S3Call) -> Response:
    """DeleteObjects."""
    tree = call.xml("Delete")
    keys = [element.findtext("Key") or "" for element in tree.findall("Object")]
    if not keys or not all(keys) or len(keys) > 1000:
        raise api_error("s3.malformed_xml")
    if any(element.find("VersionId") is not None for element in tree.findall("Object")):
        raise api_error("s3.not_implemented", what="deleting a version of an object")
    for key in keys:
        call.store.delete(call.bucket, key)
    quiet = tree.findtext("Quiet") == "true"
    deleted: list[wire.Node] = [] if quiet else [{"Key": key} for key in keys]
    return wire.xml_response("DeleteResult", {"Deleted": deleted})


def _span(call: S3Call, size: int) -> tuple[int, int, dict[str, str]]:
    """Start and length of what is asked for, and the header that says so; a range of another form is not one."""
    found = _RANGE.fullmatch(call.header("range").replace(" ", ""))
    if not found or found[0] == "bytes=-" or (found[1] and found[2] and int(found[2]) < int(found[1])):
        if "," in call.header("range"):
            raise api_error("s3.not_implemented", what="several ranges in one request")
        return 0, size, {}
    if found[1]:
        first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
    else:
        first, last = max(size - int(found[2]), 0), size - 1
    if first > last:
        raise api_error("s3.range", {"RangeRequested": call.header("range"), "ActualObjectSize": size})
    return first, last - first + 1, {"Content-Range": f"bytes {first}-{last}/{size}"}
