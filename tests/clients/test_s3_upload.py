"""An upload is checked by S3, happens once whoever else uploads, and leaves nothing half done."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.clients.s3 import Store
from airflow_sm_git.clients.s3_upload import PART
from airflow_sm_git.core import errors
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import BUCKET, client, unique, until

LARGE = 2 * PART + 12345
WAYS = {"in one": ("PutObject", 1000), "in parts": ("CompleteMultipartUpload", LARGE)}


@pytest.fixture
def s3(local_sagemaker: LocalSageMaker) -> Any:
    return client(local_sagemaker, "s3")


@pytest.fixture
def store(s3: Any) -> Store:
    return Store(s3, f"s3://{BUCKET}/{unique('upload')}/", expected_owner="000000000000")


def asked(server: LocalSageMaker, store: Store) -> list[tuple[str, str | None]]:
    """What was asked below a store's prefix, and how it was refused."""
    prefix = store.uri("").removeprefix("s3://")
    return [(line["action"], line["error"]) for line in server.requests() if line["resource"].startswith(prefix)]


def unfinished(s3: Any, store: Store) -> list[str]:
    prefix = store.uri("").removeprefix(f"s3://{BUCKET}/")
    return [each["Key"] for each in s3.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", [])]


def content(store: Store, key: str) -> bytes:
    return b"".join(store.read(store.uri(key)))


def test_a_large_body_goes_in_parts_and_a_small_one_at_once(local_sagemaker: LocalSageMaker, store: Store) -> None:
    data = os.urandom(LARGE)
    assert store.put_once("large", io.BytesIO(data), {"digest": "d"}) == (store.uri("large"), False)
    whole = ["HeadObject", "CreateMultipartUpload", *["UploadPart"] * 3, "CompleteMultipartUpload"]
    assert [action for action, _ in asked(local_sagemaker, store)] == whole
    assert content(store, "large") == data
    found = store.head(store.uri("large"))
    assert found is not None and found["Metadata"] == {"digest": "d"}
    store.put_once("small", io.BytesIO(b"x"), {})
    assert [action for action, _ in asked(local_sagemaker, store)][-2:] == ["HeadObject", "PutObject"]


@pytest.mark.parametrize("way", WAYS)
def test_of_two_who_upload_at_once_the_second_finds_the_firsts(
    local_sagemaker: LocalSageMaker, s3: Any, store: Store, way: str
) -> None:
    action, size = WAYS[way]
    data = os.urandom(size)
    results: list[tuple[str, bool]] = []
    with local_sagemaker.fault("hold", action=action, resource=store.uri("k").removeprefix("s3://")) as fault:
        slow = threading.Thread(target=lambda: results.append(store.put_once("k", io.BytesIO(data), {"digest": "d"})))
        slow.start()
        until(lambda: fault.rule["holding"], lambda holding: holding == 1)
        assert store.put_once("k", io.BytesIO(data), {"digest": "d"}) == (store.uri("k"), False)
        fault.release()
        slow.join(60)
    assert results == [(store.uri("k"), True)]
    assert (action, "PreconditionFailed") in asked(local_sagemaker, store), "S3 itself refused the second"
    assert content(store, "k") == data
    assert unfinished(s3, store) == []


@pytest.mark.parametrize(("action", "size"), [("PutObject", 1000), ("UploadPart", LARGE)])
def test_what_arrives_changed_is_refused_by_s3_and_leaves_nothing(
    local_sagemaker: LocalSageMaker, store: Store, action: str, size: int
) -> None:
    damaged = local_sagemaker.client("s3")

    def other_checksum(request: Any, **_: Any) -> None:
        request.headers.replace_header("x-amz-checksum-sha256", "A" * 43 + "=")

    damaged.meta.events.register(f"before-sign.s3.{action}", other_checksum)
    with pytest.raises(errors.AwsError, match="BadDigest"):
        Store(damaged, store.uri("")).put_once("k", io.BytesIO(os.urandom(size)), {})
    assert (action, "BadDigest") in asked(local_sagemaker, store)
    assert store.head(store.uri("k")) is None
    assert unfinished(damaged, store) == []


@pytest.mark.parametrize("action", ["UploadPart", "CompleteMultipartUpload"])
def test_an_upload_that_breaks_off_leaves_no_parts(
    local_sagemaker: LocalSageMaker, s3: Any, store: Store, action: str
) -> None:
    where = store.uri("k").removeprefix("s3://")
    with local_sagemaker.fault("denied", action=action, resource=where, times=0), pytest.raises(errors.AccessDenied):
        store.put_once("k", io.BytesIO(bytes(LARGE)), {})
    assert ("AbortMultipartUpload", None) in asked(local_sagemaker, store)
    assert unfinished(s3, store) == []
    assert store.put_once("k", io.BytesIO(bytes(LARGE)), {})[1] is False


@pytest.mark.parametrize("way", WAYS)
def test_a_lost_answer_does_not_make_the_upload_fail(
    local_sagemaker: LocalSageMaker, s3: Any, store: Store, way: str
) -> None:
    action, size = WAYS[way]
    data = os.urandom(size)
    with local_sagemaker.fault("lose", action=action, resource=store.uri("k").removeprefix("s3://")) as fault:
        assert store.put_once("k", io.BytesIO(data), {"digest": "d"})[0] == store.uri("k")
        assert fault.rule["hits"] == 1
    assert content(store, "k") == data
    assert unfinished(s3, store) == []


def test_another_upload_completes_what_a_killed_one_began(local_sagemaker: LocalSageMaker, store: Store) -> None:
    program = """
import boto3, io, sys
from airflow_sm_git.clients.s3 import Store
Store(boto3.client("s3"), sys.argv[1]).put_once("k", io.BytesIO(bytes(int(sys.argv[2]))), {})
"""
    command = [sys.executable, "-c", program, store.uri(""), str(LARGE)]
    environment = {**local_sagemaker.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    with local_sagemaker.fault("kill", action="UploadPart", skip=1, resource=store.uri("k").removeprefix("s3://")):
        assert subprocess.run(command, env=environment, check=False).returncode == -9
    assert store.head(store.uri("k")) is None
    assert store.put_once("k", io.BytesIO(bytes(LARGE)), {})[1] is False
    assert content(store, "k") == bytes(LARGE)


def test_what_lies_there_under_another_digest_is_not_taken(store: Store) -> None:
    store.put_once("k", io.BytesIO(b"other"), {"digest": "theirs"})
    with pytest.raises(errors.AwsError, match="has the digest 'theirs' in its metadata, where 'ours' belongs"):
        store.put_once("k", io.BytesIO(b"mine"), {"digest": "ours"})


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_bucket_of_somebody_else_is_refused_by_s3(local_sagemaker: LocalSageMaker, s3: Any, size: int) -> None:
    mine = f"s3://{BUCKET}/{unique('upload')}/"
    foreign = Store(s3, mine, expected_owner="111111111111")
    with pytest.raises(errors.AccessDenied):
        foreign.put_once("k", io.BytesIO(bytes(size)), {})
    assert {error for _, error in asked(local_sagemaker, foreign)} == {"AccessDenied"}


def test_the_first_error_counts_also_where_the_parts_cannot_be_removed(
    local_sagemaker: LocalSageMaker, s3: Any, store: Store
) -> None:
    where = store.uri("k").removeprefix("s3://")
    fault = local_sagemaker.fault
    with (
        fault("denied", action="UploadPart", resource=where),
        fault("internal", action="AbortMultipartUpload", resource=where, times=0),
        pytest.raises(errors.AccessDenied) as raised,
    ):
        store.put_once("k", io.BytesIO(bytes(LARGE)), {})
    assert isinstance(raised.value.__cause__, Exception)
    assert "Parts of the upload" in raised.value.__cause__.__notes__[0]
    for key in unfinished(s3, store):
        upload = s3.list_multipart_uploads(Bucket=BUCKET, Prefix=key)["Uploads"][0]["UploadId"]
        s3.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload)
