"""CopyObject and UploadPartCopy.

Source: Amazon S3 API reference, CopyObject, UploadPartCopy.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import BinaryIO
from urllib.parse import unquote

from starlette.responses import Response

from airflow_sm_git.local import wire
from airflow_sm_git.local.errors import api_error
from airflow_sm_git.local.objects import CHUNK, About, Blob, ObjectMeta
from airflow_sm_git.local.s3_call import ENCRYPTION, S3Call, checksum_headers
from airflow_sm_git.local.uploads import Uploads

_CONDITION = "x-amz-copy-source-"


def copy(call: S3Call) -> Response:
    """CopyObject."""
    directive = call.header("x-amz-metadata-directive") or "COPY"
    if directive not in ("COPY", "REPLACE"):
        raise api_error("s3.invalid_argument", reason="Unknown metadata directive.")
    file, source = _source(call)
    with file, call.store.incoming(source.about.checksum[0] if source.about.checksum else None) as blob:
        call.read_condition(source, _CONDITION)
        if (source.key == call.key and call.header("x-amz-copy-source").strip("/").startswith(f"{call.bucket}/")) and (
            directive == "COPY"
        ):
            text = "This copy request is illegal because it is trying to copy an object to itself without changing the "
            text += "object's metadata, storage class, website redirect location or encryption attributes."
            raise api_error("s3.invalid_request", reason=text)
        blob.copy(file)
        about = _about(source, call.about() if directive == "REPLACE" else source.about, blob)
        meta = call.store.commit(call.bucket, call.key, blob, about, condition=call.write_condition)
    return wire.xml_response("CopyObjectResult", _result(meta), headers={ENCRYPTION: "AES256"})


def _about(source: ObjectMeta, about: About, blob: Blob) -> About:
    if not source.about.checksum or not blob.checksum:
        return about
    return replace(about, checksum=(blob.checksum.algorithm, blob.checksum.value()), checksum_type="FULL_OBJECT")


def _result(meta: ObjectMeta) -> dict[str, wire.Node]:
    shown: dict[str, wire.Node] = {"LastModified": wire.iso(meta.modified), "ETag": f'"{meta.etag}"'}
    for name, value in checksum_headers(meta).items():
        word = name.removeprefix("x-amz-checksum-")
        shown["ChecksumType" if word == "type" else f"Checksum{word.upper()}"] = value
    return shown


def upload_part_copy(call: S3Call) -> Response:
    """UploadPartCopy, of a whole object or of ``x-amz-copy-source-range``."""
    upload, number = call.query["uploadId"], call.number("partNumber", 0, 1, 10_000)
    about = Uploads(call.store).get(call.bucket, call.key, upload).about
    file, source = _source(call)
    with file, call.store.incoming(about.checksum[0] if about.checksum else None) as blob:
        call.read_condition(source, _CONDITION)
        first, length = _range(call, source.size)
        file.seek(first)
        while length and (data := file.read(min(CHUNK, length))):
            blob.write(data)
            length -= len(data)
        checksum = blob.checksum.value() if blob.checksum else None
        Uploads(call.store).add_part(call.bucket, call.key, upload, number, blob, checksum)
        etag, modified = blob.md5.hexdigest(), blob.path.stat().st_mtime
    return wire.xml_response("CopyPartResult", {"LastModified": wire.iso(modified), "ETag": f'"{etag}"'})


def _range(call: S3Call, size: int) -> tuple[int, int]:
    text = call.header("x-amz-copy-source-range")
    if not text:
        return 0, size
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", text)
    if not found or not int(found[1]) <= int(found[2]) < size:
        raise api_error("s3.invalid_argument", reason=f"Range specified is not valid for source object of size: {size}")
    return int(found[1]), int(found[2]) - int(found[1]) + 1


def _source(call: S3Call) -> tuple[BinaryIO, ObjectMeta]:
    path, _, version = call.header("x-amz-copy-source").partition("?versionId=")
    try:
        bucket, _, key = unquote(path, errors="strict").lstrip("/").partition("/")
    except UnicodeDecodeError:
        raise api_error("s3.invalid_argument", reason="Invalid copy source encoding.") from None
    if version not in ("", "null"):
        raise api_error("s3.not_implemented", what="copying a version of an object")
    if not bucket or not key:
        raise api_error("s3.invalid_argument", reason="Invalid copy source object key")
    return call.store.open_read(bucket, key)
