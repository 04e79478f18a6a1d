"""S3's multipart operations.

Source: Amazon S3 API reference, the operations' own pages.
"""

from __future__ import annotations

from dataclasses import replace

from starlette.responses import Response

from airflow_sm_git.local import wire
from airflow_sm_git.local.checksums import ALGORITHMS
from airflow_sm_git.local.errors import api_error
from airflow_sm_git.local.s3_call import ENCRYPTION, S3Call, checksum_headers
from airflow_sm_git.local.uploads import Part, Uploads


def create(call: S3Call) -> Response:
    """CreateMultipartUpload."""
    about, headers = call.about(), {ENCRYPTION: "AES256"}
    if algorithm := call.header("x-amz-checksum-algorithm").lower():
        if algorithm not in ALGORITHMS:
            raise api_error("s3.not_implemented", what=f"the checksum algorithm {algorithm.upper()}")
        kind = call.header("x-amz-checksum-type") or "COMPOSITE"
        if kind == "FULL_OBJECT" and algorithm != "crc32":
            text = f"The FULL_OBJECT checksum type cannot be used with the {algorithm} checksum algorithm."
            raise api_error("s3.invalid_request", reason=text)
        about = replace(about, checksum=(algorithm, ""), checksum_type=kind)
        headers |= {"x-amz-checksum-algorithm": algorithm.upper(), "x-amz-checksum-type": kind}
    upload = Uploads(call.store).create(call.bucket, call.key, about)
    body: wire.Node = {"Bucket": call.bucket, "Key": call.key, "UploadId": upload}
    return wire.xml_response("InitiateMultipartUploadResult", body, headers=headers)


def upload_part(call: S3Call) -> Response:
    """UploadPart."""
    assert call.blob  # noqa: S101 (the operation table says that this operation streams)
    number, upload = call.number("partNumber", 0, 1, 10_000), call.query["uploadId"]
    uploads = Uploads(call.store)
    wanted = uploads.get(call.bucket, call.key, upload).about.checksum
    sent = call.blob.checksum.algorithm if call.blob.checksum else None
    if wanted and wanted[0] != sent:
        text = f"Checksum Type mismatch occurred, expected checksum Type: {wanted[0]}, actual checksum Type: {sent}"
        raise api_error("s3.invalid_request", reason=text)
    uploads.add_part(call.bucket, call.key, upload, number, call.blob, call.checksum)
    headers = {"ETag": f'"{call.blob.md5.hexdigest()}"', ENCRYPTION: "AES256"}
    if sent and call.checksum:
        headers[f"x-amz-checksum-{sent}"] = call.checksum
    return Response(None, 200, headers)


def complete(call: S3Call) -> Response:
    """CompleteMultipartUpload."""
    chosen = []
    for element in call.xml("CompleteMultipartUpload").findall("Part"):
        number, etag = element.findtext("PartNumber") or "", (element.findtext("ETag") or "").strip('"')
        if not number.isdecimal():
            raise api_error("s3.malformed_xml")
        chosen.append((int(number), etag))
    meta = Uploads(call.store).complete(call.bucket, call.key, call.query["uploadId"], chosen, call.write_condition)
    body: dict[str, wire.Node] = {
        "Location": f"http://{call.header('host')}/{call.bucket}/{call.key}",
        "Bucket": call.bucket,
        "Key": call.key,
        "ETag": f'"{meta.etag}"',
    }
    for name, value in checksum_headers(meta).items():
        word = name.removeprefix("x-amz-checksum-")
        body["ChecksumType" if word == "type" else f"Checksum{word.upper()}"] = value
    return wire.xml_response("CompleteMultipartUploadResult", body, headers={ENCRYPTION: "AES256"})


def abort(call: S3Call) -> Response:
    """AbortMultipartUpload."""
    Uploads(call.store).abort(call.bucket, call.key, call.query["uploadId"])
    return Response(None, 204)


def list_parts(call: S3Call) -> Response:
    """ListParts."""
    uploads, upload = Uploads(call.store), call.query["uploadId"]
    about = uploads.get(call.bucket, call.key, upload).about
    after, most = call.number("part-number-marker", 0), call.number("max-parts", 1000)
    parts = [part for part in uploads.parts(upload) if part.number > after]
    page = parts[: min(most, 1000)]
    algorithm = about.checksum[0].upper() if about.checksum else None
    body: dict[str, wire.Node] = {
        "Bucket": call.bucket,
        "Key": call.key,
        "UploadId": upload,
        "PartNumberMarker": after,
        "NextPartNumberMarker": page[-1].number if page else 0,
        "MaxParts": most,
        "IsTruncated": len(page) < len(parts),
        "ChecksumAlgorithm": algorithm,
        "StorageClass": "STANDARD",
    }
    shown: list[wire.Node] = [_part(part, algorithm) for part in page]
    return wire.xml_response("ListPartsResult", {**body, "Part": shown})


def _part(part: Part, algorithm: str | None) -> wire.Node:
    shown: dict[str, wire.Node] = {
        "PartNumber": part.number,
        "LastModified": wire.iso(part.modified),
        "ETag": f'"{part.etag}"',
        "Size": part.size,
    }
    return {**shown, f"Checksum{algorithm}": part.checksum} if algorithm else shown


def list_uploads(call: S3Call) -> Response:
    """ListMultipartUploads, without paging: a bucket has few at a time here."""
    for name in ("key-marker", "upload-id-marker", "delimiter", "max-uploads"):
        if call.query.get(name):
            raise api_error("s3.not_implemented", what=f"{name} of ListMultipartUploads")
    call.store.require_bucket(call.bucket)
    uploads = Uploads(call.store).all(call.bucket, call.query.get("prefix", ""))
    shown: list[wire.Node] = [
        {"Key": upload.key, "UploadId": upload.id, "Initiated": wire.iso(upload.created)} for upload in uploads
    ]
    body: wire.Node = {"Bucket": call.bucket, "MaxUploads": 1000, "IsTruncated": False, "Upload": shown}
    return wire.xml_response("ListMultipartUploadsResult", body)
