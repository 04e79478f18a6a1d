"""Putting an object into S3: in parts, checked by S3, and only where there is none yet.

Source: Amazon S3 User Guide, "Uploading and copying objects using multipart upload", "Checking object integrity",
"How to prevent object overwrites with conditional writes". s3transfer can make no condition.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError

PART = 8 << 20
"""Bytes of one part; two are held in memory at a time."""
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload"})


class Taken(Exception):
    """Something was put there meanwhile, perhaps by ourselves: an answer was lost. Internal to the clients."""


def upload(
    client: Any, bucket: str, key: str, body: IO[bytes], *, metadata: Mapping[str, str], owner: Mapping[str, str]
) -> None:
    """Put ``body``, from where it stands to its end, unless there is an object.

    S3 compares the SHA-256 of what it receives with that of what was read here. Whatever happens, no part is left.

    :param client: a boto3 ``s3`` client.
    :param owner: ``ExpectedBucketOwner``, or nothing.
    :raises Taken: there is an object, or there may be.
    :raises ClientError, BotoCoreError: S3 refused it, or cannot be reached.
    """
    where = {"Bucket": bucket, "Key": key, **owner}
    first = body.read(PART)
    try:
        if len(first) < PART:
            client.put_object(**where, Body=first, Metadata=metadata, IfNoneMatch="*", ChecksumSHA256=_sha256(first))
        else:
            _in_parts(client, where, first, body, metadata)
    except ClientError as error:
        if error.response["Error"]["Code"] in _TAKEN:
            raise Taken from error
        raise


def _in_parts(client: Any, where: dict[str, str], first: bytes, body: IO[bytes], metadata: Mapping[str, str]) -> None:
    made = client.create_multipart_upload(**where, Metadata=metadata, ChecksumAlgorithm="SHA256")
    this = {**where, "UploadId": made["UploadId"]}
    try:
        parts: list[dict[str, Any]] = []
        chunk = first
        while chunk:
            part = {"PartNumber": len(parts) + 1, "ChecksumSHA256": _sha256(chunk)}
            answer = client.upload_part(**this, **part, Body=chunk)
            parts.append({**part, "ETag": answer["ETag"]})
            chunk = body.read(PART)
        client.complete_multipart_upload(**this, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
    except BaseException as error:
        try:
            client.abort_multipart_upload(**this)
        except (ClientError, BotoCoreError) as left:
            if not (isinstance(left, ClientError) and left.response["Error"]["Code"] == "NoSuchUpload"):
                error.add_note(f"Parts of the upload {made['UploadId']} are left, and cost storage: {left}")
        raise


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
