"""S3 through boto3: the cases that take ``client`` hold for moto too; the others say what only ours does."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import os
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_sm_git.local import daemon
from airflow_sm_git.local.pytest_plugin import LocalSageMaker

ClientFactory = Callable[..., Any]
PART = 5 << 20


@pytest.fixture
def s3(client: ClientFactory) -> Any:
    return client("s3")


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"test-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def our_bucket(ours: ClientFactory) -> tuple[Any, str]:
    name, s3 = f"test-{uuid.uuid4().hex}", ours("s3")
    s3.create_bucket(Bucket=name)
    return s3, name


def refusal(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    answer = error.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


# Held against moto


def test_an_object_comes_back_with_its_bytes_type_and_metadata(s3: Any, bucket: str) -> None:
    put = s3.put_object(
        Bucket=bucket,
        Key="a/b.txt",
        Body=b"hello",
        ContentType="text/plain",
        Metadata={"digest": "abc"},
        CacheControl="no-store",
    )
    got = s3.get_object(Bucket=bucket, Key="a/b.txt")
    assert got["Body"].read() == b"hello"
    assert (got["ContentType"], got["Metadata"], got["CacheControl"]) == ("text/plain", {"digest": "abc"}, "no-store")
    assert put["ETag"] == got["ETag"] == f'"{hashlib.md5(b"hello", usedforsecurity=False).hexdigest()}"'
    head = s3.head_object(Bucket=bucket, Key="a/b.txt")
    assert (head["ContentLength"], head["Metadata"], head["ETag"]) == (5, {"digest": "abc"}, put["ETag"])


def test_an_object_without_a_type_is_binary(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["ContentType"], got["ContentLength"]) == (b"", "binary/octet-stream", 0)


@pytest.mark.parametrize(
    "key", ["a b+c", "ä/ö/ü.txt", "a//b", "/leading", "100%25", "q?x=y&z", "dots/../up", "tilde~'()*!", "a/"]
)
def test_a_key_may_hold_any_character(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]


def test_an_object_and_a_folder_of_its_name_live_side_by_side(s3: Any, bucket: str) -> None:
    for key in ("a", "a/b", "a/b/c"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"a"
    assert s3.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"a/b"


@pytest.mark.parametrize(
    ("asked", "body", "shown"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=5-99", b"56789", "bytes 5-9/10"),
    ],
)
def test_a_range_is_answered_with_its_bytes_alone(s3: Any, bucket: str, asked: str, body: bytes, shown: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert (got["Body"].read(), got["ContentRange"]) == (body, shown)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206


def test_a_range_beyond_the_end_is_refused(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=10-")
    assert refusal(error) == ("InvalidRange", 416)


def test_what_is_not_there_is_named(s3: Any, bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="missing")
    assert refusal(error) == ("NoSuchKey", 404)
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket=bucket, Key="missing")
    assert refusal(error) == ("404", 404)
    for call in (s3.list_objects_v2, s3.get_bucket_location):
        with pytest.raises(ClientError) as error:
            call(Bucket=f"missing-{uuid.uuid4().hex}")
        assert refusal(error) == ("NoSuchBucket", 404)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=f"missing-{uuid.uuid4().hex}", Key="k", Body=b"x")
    assert refusal(error) == ("NoSuchBucket", 404)


def test_a_listing_is_ordered_and_filtered_by_prefix(s3: Any, bucket: str) -> None:
    for key in ("b", "a/2", "a/1", "a/ä", "a0", "A"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    listed = s3.list_objects_v2(Bucket=bucket)
    assert [item["Key"] for item in listed["Contents"]] == ["A", "a/1", "a/2", "a/ä", "a0", "b"]
    assert (listed["KeyCount"], listed["IsTruncated"]) == (6, False)
    under = s3.list_objects_v2(Bucket=bucket, Prefix="a/")
    assert [(item["Key"], item["Size"]) for item in under["Contents"]] == [("a/1", 1), ("a/2", 1), ("a/ä", 1)]
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix="zzz")
    after = s3.list_objects_v2(Bucket=bucket, StartAfter="a/2")
    assert [item["Key"] for item in after["Contents"]] == ["a/ä", "a0", "b"]


def test_a_delimiter_groups_keys(s3: Any, bucket: str) -> None:
    for key in ("a/1", "a/2", "b/1", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    listed = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [item["Prefix"] for item in listed["CommonPrefixes"]] == ["a/", "b/"]
    assert [item["Key"] for item in listed["Contents"]] == ["c"]
    assert listed["KeyCount"] == 3


@pytest.mark.parametrize(
    ("operation", "delimiter"), [("list_objects_v2", ""), ("list_objects_v2", "/"), ("list_objects", "")]
)
def test_pages_hold_everything_once(s3: Any, bucket: str, operation: str, delimiter: str) -> None:
    everything_once(s3, bucket, operation, delimiter)


def everything_once(s3: Any, bucket: str, operation: str, delimiter: str) -> None:
    keys = [f"{folder}/{number}" for folder in "abc" for number in range(3)] + ["z1", "z2"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    pages = list(
        s3.get_paginator(operation).paginate(Bucket=bucket, Delimiter=delimiter, PaginationConfig={"PageSize": 2})
    )
    found = [item["Key"] for page in pages for item in page.get("Contents", ())]
    found += [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
    assert sorted(found) == (["a/", "b/", "c/", "z1", "z2"] if delimiter else keys)
    assert all(len(page.get("Contents", ())) + len(page.get("CommonPrefixes", ())) <= 2 for page in pages)


def test_a_write_that_must_not_replace_is_refused_when_there_is_something(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
    assert refusal(error) == ("PreconditionFailed", 412)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"


def test_a_read_holds_the_etag_against_its_conditions(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    assert s3.get_object(Bucket=bucket, Key="k", IfMatch=etag)["Body"].read() == b"x"
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k", IfMatch='"other"')
    assert refusal(error) == ("PreconditionFailed", 412)
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag)
    assert refusal(error)[1] == 304


@pytest.mark.parametrize(
    ("algorithm", "value"),
    [
        ("CRC32", base64.b64encode((0x3610A686).to_bytes(4, "big")).decode()),
        ("SHA1", base64.b64encode(hashlib.sha1(b"hello", usedforsecurity=False).digest()).decode()),
        ("SHA256", base64.b64encode(hashlib.sha256(b"hello").digest()).decode()),
    ],
)
def test_a_checksum_is_kept_and_shown_when_asked_for(s3: Any, bucket: str, algorithm: str, value: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm=algorithm)
    assert put[f"Checksum{algorithm}"] == value
    assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")[f"Checksum{algorithm}"] == value


def test_a_deleted_object_is_gone_and_deleting_it_again_is_no_error(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for _ in range(2):
        assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_many_objects_are_deleted_in_one_request(s3: Any, bucket: str) -> None:
    for key in ("a", "b & <c>", "d"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "b & <c>"}]})
    assert sorted(item["Key"] for item in answer["Deleted"]) == ["a", "b & <c>"]
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["d"]


def test_a_copy_has_the_bytes_and_either_metadata(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a b", Body=b"x" * 1000, Metadata={"one": "1"}, ContentType="text/plain")
    etag = s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "a b"})["CopyObjectResult"][
        "ETag"
    ]
    got = s3.get_object(Bucket=bucket, Key="copy")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"x" * 1000, {"one": "1"}, "text/plain")
    assert etag == got["ETag"]
    s3.copy_object(
        Bucket=bucket,
        Key="copy",
        CopySource={"Bucket": bucket, "Key": "a b"},
        MetadataDirective="REPLACE",
        Metadata={"two": "2"},
    )
    assert s3.head_object(Bucket=bucket, Key="copy")["Metadata"] == {"two": "2"}


def test_parts_become_one_object(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", Metadata={"a": "b"})["UploadId"]
    bodies = [b"1" * PART, b"2" * PART, b"3"]
    where = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    etags = [s3.upload_part(**where, PartNumber=n, Body=body)["ETag"] for n, body in enumerate(bodies, 1)]
    assert [part["Size"] for part in s3.list_parts(**where)["Parts"]] == [PART, PART, 1]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    digests = b"".join(bytes.fromhex(etag.strip('"')) for etag in etags)
    assert done["ETag"] == f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-3"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"]) == (b"".join(bodies), {"a": "b"})


def test_an_upload_of_parts_that_are_too_small_is_refused(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    where = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    etags = [s3.upload_part(**where, PartNumber=n, Body=b"small")["ETag"] for n in (1, 2)]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert refusal(error) == ("EntityTooSmall", 400)


def test_an_aborted_upload_is_gone(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    assert [item["UploadId"] for item in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_boto3_transfers_a_large_file_both_ways(s3: Any, bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(2 * PART + 12_345))
    config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
    s3.upload_file(str(source), bucket, "large", Config=config, ExtraArgs={"Metadata": {"a": "b"}})
    s3.download_file(bucket, "large", str(tmp_path / "target"), Config=config)
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_a_bucket_is_listed_located_and_deleted_when_empty(s3: Any, bucket: str) -> None:
    assert bucket in [item["Name"] for item in s3.list_buckets()["Buckets"]]
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    assert s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with pytest.raises(ClientError) as error:
        s3.delete_bucket(Bucket=bucket)
    assert refusal(error) == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)
    with pytest.raises(ClientError) as error:
        s3.head_bucket(Bucket=bucket)
    assert refusal(error) == ("404", 404)


def test_making_a_bucket_again_changes_nothing_in_us_east_1(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.create_bucket(Bucket=bucket)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_a_presigned_address_reads_and_writes(client: ClientFactory, bucket: str) -> None:
    s3 = client("s3", config=Config(signature_version="s3v4"))
    put = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "a b"})
    assert fetch("PUT", put, b"hello", {"Content-Type": "text/plain"})[0] == 200
    get = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b"})
    assert fetch("GET", get) == (200, b"hello")


def fetch(method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """One request without a client library: status and body of the answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


# Only ours: moto answers otherwise, or not at all


def test_a_bad_bucket_name_is_refused(ours: ClientFactory) -> None:
    s3 = ours("s3", config=Config(s3={"addressing_style": "path"}))
    with pytest.raises(ClientError) as error:
        s3.create_bucket(Bucket="Upper_Case")
    assert refusal(error) == ("InvalidBucketName", 400)


def test_a_key_may_hold_a_line_break(our_bucket: tuple[Any, str]) -> None:
    s3, bucket = our_bucket
    s3.put_object(Bucket=bucket, Key="a\nb", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="a\nb")["Body"].read() == b"x"


def test_pages_of_the_first_listing_hold_everything_once(our_bucket: tuple[Any, str]) -> None:
    everything_once(*our_bucket, "list_objects", "/")


def test_an_upload_of_unknown_or_disordered_parts_is_refused(our_bucket: tuple[Any, str]) -> None:
    s3, bucket = our_bucket
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    where = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    etags = [s3.upload_part(**where, PartNumber=n, Body=b"small")["ETag"] for n in (1, 2)]
    one, two = ({"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1))
    for parts, code in (([one, {**two, "PartNumber": 7}], "InvalidPart"), ([two, one], "InvalidPartOrder")):
        with pytest.raises(ClientError) as error:
            s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        assert refusal(error) == (code, 400)


def test_an_aborted_upload_takes_no_more_parts(our_bucket: tuple[Any, str]) -> None:
    s3, bucket = our_bucket
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    with pytest.raises(ClientError) as error:
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x")
    assert refusal(error) == ("NoSuchUpload", 404)


def test_an_address_signed_the_old_way_is_refused(our_bucket: tuple[Any, str]) -> None:
    s3, bucket = our_bucket
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    status, body = fetch("GET", url)
    assert status == 400 and b"Please use AWS4-HMAC-SHA256" in body


def test_the_default_bucket_exists_from_the_start(ours: ClientFactory) -> None:
    assert ours("s3").head_bucket(Bucket="sagemaker-us-east-1-000000000000")["BucketRegion"] == "us-east-1"


def test_another_account_is_not_the_owner(our_bucket: tuple[Any, str]) -> None:
    s3, bucket = our_bucket
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ExpectedBucketOwner="000000000000")
    for call in (s3.get_object, s3.put_object, s3.delete_object):
        with pytest.raises(ClientError) as error:
            call(Bucket=bucket, Key="k", ExpectedBucketOwner="111111111111")
        assert refusal(error) == ("AccessDenied", 403)


def test_a_write_that_must_replace_one_version_is_refused_for_another(our_bucket: tuple[Any, str]) -> None:
    s3, bucket = our_bucket
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", IfMatch='"any"')
    assert refusal(error) == ("NoSuchKey", 404)
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"one")["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"two", IfMatch=etag)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"three", IfMatch=etag)
    assert refusal(error) == ("PreconditionFailed", 412)


@pytest.mark.parametrize(
    ("claim", "code"),
    [
        ({"ChecksumCRC32": "AAAAAA=="}, "BadDigest"),
        ({"ChecksumSHA256": base64.b64encode(bytes(32)).decode()}, "BadDigest"),
        ({"ContentMD5": base64.b64encode(bytes(16)).decode()}, "BadDigest"),
        ({"ContentMD5": "bm90IGFuIE1ENQ=="}, "InvalidDigest"),
    ],
)
def test_a_wrong_checksum_is_refused_and_stores_nothing(
    our_bucket: tuple[Any, str], claim: dict[str, str], code: str
) -> None:
    s3, bucket = our_bucket
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"hello", **claim)
    assert refusal(error) == (code, 400)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_what_is_not_implemented_is_named(our_bucket: tuple[Any, str]) -> None:
    s3, bucket = our_bucket
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=b"), "x-amz-tagging"),
        (lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read"), "public-read"),
        (lambda: s3.get_bucket_versioning(Bucket=bucket), "versioning"),
        (lambda: s3.get_object_tagging(Bucket=bucket, Key="k"), "tagging"),
        (lambda: s3.get_object(Bucket=bucket, Key="k", VersionId="v"), "versionId"),
    ]
    for call, named in calls:
        with pytest.raises(ClientError, match=named) as error:
            call()
        assert refusal(error) == ("NotImplemented", 501)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_part_can_be_copied_from_a_range(our_bucket: tuple[Any, str]) -> None:
    s3, bucket = our_bucket
    s3.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    where = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    copied = s3.upload_part_copy(**where, PartNumber=1, CopySource=f"{bucket}/source", CopySourceRange="bytes=2-4")
    parts = [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"234"


def test_a_body_in_chunks_with_a_trailing_checksum_is_decoded(
    local_sagemaker: LocalSageMaker, our_bucket: tuple[Any, str]
) -> None:
    s3, bucket = our_bucket
    body = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n"
    for sent, status in ((body, 200), (body.replace(b"DUoRhQ", b"AAAAAA"), 400), (body[:-20], 400)):
        headers = {
            "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "x-amz-decoded-content-length": "11",
            "x-amz-trailer": "x-amz-checksum-crc32",
            "content-encoding": "aws-chunked",
        }
        assert signed(local_sagemaker, "PUT", f"/{bucket}/k", sent, headers)[0] == status
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (got["Body"].read(), got["ChecksumCRC32"]) == (b"hello world", "DUoRhQ==")
    assert "ContentEncoding" not in got


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("path", ["/k%ff", "/k%ed%a0%80", "?prefix=%fe&list-type=2"])
def test_an_address_that_is_not_utf8_is_refused(
    local_sagemaker: LocalSageMaker, our_bucket: tuple[Any, str], method: str, path: str
) -> None:
    s3, bucket = our_bucket
    unsigned = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    status, body = signed(local_sagemaker, method, f"/{bucket}{path}", b"", unsigned)
    assert status == 400
    assert method == "HEAD" or b"<Code>InvalidURI</Code>" in body
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("value", ["a\r\nb: c", "\u2603", "\0"])
def test_a_header_asked_for_that_http_cannot_carry_is_refused(our_bucket: tuple[Any, str], value: str) -> None:
    s3, bucket = our_bucket
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for call, code in ((s3.get_object, "InvalidArgument"), (s3.head_object, "400")):
        with pytest.raises(ClientError) as error:
            call(Bucket=bucket, Key="k", ResponseContentType=value)
        assert refusal(error) == (code, 400)
    assert s3.get_object(Bucket=bucket, Key="k", ResponseContentType="a/\xe9")["Body"].read() == b"x"


def test_a_copys_source_that_is_not_utf8_is_refused(
    local_sagemaker: LocalSageMaker, our_bucket: tuple[Any, str]
) -> None:
    _, bucket = our_bucket
    headers = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-copy-source": f"/{bucket}/%ff"}
    status, body = signed(local_sagemaker, "PUT", f"/{bucket}/k", b"", headers)
    assert (status, b"<Code>InvalidArgument</Code>" in body) == (400, True)


def signed(server: LocalSageMaker, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    class Auth(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
        def payload(self, request: AWSRequest) -> str:
            return str(headers["x-amz-content-sha256"])

    request = AWSRequest(method, server.url + path, headers=headers, data=body)
    Auth(Credentials(server.info.access_key_id, server.info.secret_access_key), "s3", "us-east-1").add_auth(request)
    return fetch(method, request.url, body, dict(request.headers))


def test_a_large_object_passes_through_without_growing_the_server(
    local_sagemaker: LocalSageMaker, our_bucket: tuple[Any, str], tmp_path: Path
) -> None:
    s3, bucket = our_bucket
    size = 200 << 20
    server = psutil.Process(local_sagemaker.info.pid)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(size)
    before = server.memory_info().rss
    with (tmp_path / "large").open("rb") as file:
        s3.put_object(Bucket=bucket, Key="large", Body=file)
    got = s3.get_object(Bucket=bucket, Key="large")["Body"]
    read = sum(len(chunk) for chunk in got.iter_chunks(1 << 20))
    assert read == size
    assert server.memory_info().rss - before < 30 << 20
    s3.delete_object(Bucket=bucket, Key="large")


def test_a_server_killed_in_the_middle_of_a_write_keeps_the_old_object_whole(tmp_path: Path) -> None:
    root = tmp_path / "state"
    server = LocalSageMaker(root, daemon.start(root))
    bucket = "sagemaker-us-east-1-000000000000"
    try:
        server.client("s3").put_object(Bucket=bucket, Key="k", Body=b"old")

        class Killer(io.RawIOBase):
            """A body that kills the server after its first two megabytes."""

            def __init__(self) -> None:
                self.left, self.sending = 64 << 20, False

            def readable(self) -> bool:
                return True

            def seekable(self) -> bool:
                return True

            def seek(self, offset: int, whence: int = 0) -> int:
                self.left = (64 << 20) - offset if whence == 0 else 0
                return (64 << 20) - self.left

            def tell(self) -> int:
                return (64 << 20) - self.left

            def read(self, size: int = -1) -> bytes:
                if self.sending and self.left < 62 << 20 and psutil.pid_exists(server.info.pid):
                    os.kill(server.info.pid, signal.SIGKILL)
                size = self.left if size < 0 else min(size, self.left)
                self.left -= size
                return bytes(size)

        body = Killer()
        s3 = server.client(
            "s3", config=Config(retries={"total_max_attempts": 1}, request_checksum_calculation="when_required")
        )
        s3.meta.events.register("before-send.s3", lambda **_: setattr(body, "sending", True))
        with pytest.raises(Exception, match=r"(?i)connection|broken pipe"):
            s3.put_object(Bucket=bucket, Key="k", Body=body)
        server = LocalSageMaker(root, daemon.start(root))
        assert server.client("s3").get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"
        blobs = [path for path in (root / "s3" / "blobs").glob("*/*")]
        assert [blob.read_bytes() for blob in blobs] == [b"old"]
    finally:
        daemon.stop(root)
