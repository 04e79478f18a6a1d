"""S3 request bodies, from the socket into a blob: decoded, hashed and checked against all that the client claimed.

Source: Amazon S3 API reference, "Signature calculations … chunked upload", "Checking object integrity".
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from concurrent.futures import Executor

from airflow_sm_git.local import auth
from airflow_sm_git.local.checksums import ALGORITHMS
from airflow_sm_git.local.errors import ApiError, api_error
from airflow_sm_git.local.exchange import Exchange
from airflow_sm_git.local.objects import CHUNK, Blob

_PREFIX = "x-amz-checksum-"
_NOT_ALGORITHMS = ("mode", "type", "algorithm")


def checksum_algorithm(exchange: Exchange) -> str | None:
    """The algorithm of the checksum that comes with the body, in a header or in a trailer.

    :raises ApiError: NotImplemented, one that we cannot compute.
    """
    request = exchange.request
    names = [name.removeprefix(_PREFIX) for name, _ in request.headers if name.startswith(_PREFIX)]
    names += [request.header("x-amz-trailer").lower().removeprefix(_PREFIX)]
    names += [request.header("x-amz-sdk-checksum-algorithm").lower()]
    wanted = {name for name in names if name and name not in _NOT_ALGORITHMS}
    if unknown := wanted - set(ALGORITHMS):
        raise api_error("s3.not_implemented", what=f"the checksum algorithm {min(unknown).upper()}")
    if len(wanted) > 1:
        raise api_error("s3.invalid_request", reason="Expecting a single x-amz-checksum- header.")
    return wanted.pop() if wanted else None


async def ingest(exchange: Exchange, blob: Blob, pool: Executor) -> str | None:
    """Write the request's body into ``blob`` and check it.

    :param pool: where the writing and hashing happens, so that the event loop goes on.
    :returns: the checksum, base64, where the client sent one.
    :raises ApiError: a hash or checksum differs from the client's, or the body ends early.
    """
    loop = asyncio.get_running_loop()
    payload = exchange.caller.payload if exchange.caller else auth.UNSIGNED
    trailer: dict[str, str] = {}
    chunks = exchange.chunks()
    if payload.startswith("STREAMING-"):
        if payload != auth.UNSIGNED_TRAILER:
            raise api_error("s3.not_implemented", what=f"the payload signature {payload}")
        chunks = _dechunk(chunks, trailer)
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        if len(buffer) >= CHUNK:
            await loop.run_in_executor(pool, blob.write, bytes(buffer))
            buffer.clear()
    blob.write(bytes(buffer))
    return _check(exchange, blob, payload, trailer)


def _check(exchange: Exchange, blob: Blob, payload: str, trailer: dict[str, str]) -> str | None:
    request = exchange.request
    length = request.header("x-amz-decoded-content-length") or request.header("content-length")
    if length.isdecimal() and int(length) != blob.size:
        raise api_error("s3.incomplete")
    if payload not in (auth.UNSIGNED, auth.UNSIGNED_TRAILER) and payload != blob.sha256.hexdigest():
        raise api_error("s3.sha256_mismatch")
    if md5 := request.header("content-md5"):
        _check_md5(md5, blob)
    if not blob.checksum:
        return None
    name = _PREFIX + blob.checksum.algorithm
    claimed, value = request.header(name) or trailer.get(name), blob.checksum.value()
    if claimed is not None and claimed != value:
        raise api_error("s3.bad_digest", algorithm=blob.checksum.algorithm.upper())
    return value


def _check_md5(claimed: str, blob: Blob) -> None:
    try:
        digest = base64.b64decode(claimed, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 16:
        raise api_error("s3.invalid_digest")
    if digest != blob.md5.digest():
        raise api_error("s3.bad_digest", algorithm="Content-MD5")


async def _dechunk(source: AsyncIterator[bytes], trailer: dict[str, str]) -> AsyncIterator[bytes]:
    """The content of an ``aws-chunked`` body; its trailing headers go into ``trailer``."""
    reader = _Reader(source)
    while True:
        size = _size(await reader.line())
        if size == 0:
            break
        async for piece in reader.take(size):
            yield piece
        if await reader.line():
            raise api_error("s3.incomplete")
    while line := await reader.line():
        name, _, value = line.partition(":")
        trailer[name.strip().lower()] = value.strip()


def _size(line: str) -> int:
    try:
        return int(line.partition(";")[0], 16)
    except ValueError:
        raise _incomplete() from None


def _incomplete() -> ApiError:
    return api_error("s3.incomplete")


class _Reader:
    """Lines and counted bytes out of chunks that know of neither."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._buffer = bytearray()

    async def _fill(self) -> None:
        try:
            self._buffer += await anext(self._source)
        except StopAsyncIteration:
            raise _incomplete() from None

    async def line(self) -> str:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > 16_384:
                raise _incomplete()
            await self._fill()
        line = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + 2]
        return line

    async def take(self, size: int) -> AsyncIterator[bytes]:
        while size:
            if not self._buffer:
                await self._fill()
            piece = bytes(self._buffer[:size])
            del self._buffer[: len(piece)]
            size -= len(piece)
            yield piece
