from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_sm_git.clients.s3 import Store
from airflow_sm_git.core import errors
from airflow_sm_git.core.package import Entry, write_package
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import BUCKET, archive, client, unique

ACCOUNT = "000000000000"
LONG = "deep/" * 30 + "module_with_a_name_é.py"


@pytest.fixture
def s3(local_sagemaker: LocalSageMaker) -> Any:
    return client(local_sagemaker, "s3")


@pytest.fixture
def store(s3: Any) -> Store:
    return Store(s3, f"s3://{BUCKET}/{unique('store')}/", expected_owner=ACCOUNT)


def content(store: Store, uri: str) -> bytes:
    return b"".join(store.read(uri))


def keys(s3: Any, uri: str) -> list[str]:
    prefix = uri.removeprefix(f"s3://{BUCKET}/")
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return [item["Key"].removeprefix(prefix) for item in listed]


@pytest.mark.parametrize(
    ("prefix", "uri"),
    [
        ("s3://bucket", "s3://bucket/k"),
        ("s3://bucket/", "s3://bucket/k"),
        ("s3://bucket/a/b", "s3://bucket/a/b/k"),
        ("s3://bucket/a/b/", "s3://bucket/a/b/k"),
    ],
)
def test_a_prefix_means_the_same_with_and_without_its_last_slash(s3: Any, prefix: str, uri: str) -> None:
    assert Store(s3, prefix).uri("k") == uri


def test_a_prefix_that_is_no_s3_uri_is_refused_by_the_name_of_its_setting(s3: Any) -> None:
    with pytest.raises(errors.BadParameter, match=r"^s3_uri_prefix='/tmp'"):
        Store(s3, "/tmp")  # noqa: S108  what is refused


def test_an_object_is_put_once_with_its_metadata(local_sagemaker: LocalSageMaker, store: Store) -> None:
    uri, reused = store.put_once("0123/sourcedir.tar.gz", io.BytesIO(b"first"), {"digest": "0123"})
    assert (uri, reused) == (store.uri("0123/sourcedir.tar.gz"), False)
    head = store.head(uri)
    assert head is not None
    assert head["Metadata"] == {"digest": "0123"}
    before = len(local_sagemaker.requests())
    assert store.put_once("0123/sourcedir.tar.gz", io.BytesIO(b"second"), {}) == (uri, True)
    assert [each["action"] for each in local_sagemaker.requests()[before:]] == ["HeadObject"]
    assert content(store, uri) == b"first"


def test_a_body_that_was_read_before_is_put_whole(store: Store) -> None:
    body = io.BytesIO(b"whole")
    body.read()
    uri, _ = store.put_once("k", body, {})
    assert content(store, uri) == b"whole"


def test_a_large_object_comes_back_in_chunks(store: Store) -> None:
    data = hashlib.sha256(b"seed").digest() * 300_000  # above the size from which boto3 uploads in parts
    uri, _ = store.put_once("large", io.BytesIO(data), {"digest": "d"})
    chunks = list(store.read(uri))
    assert len(chunks) > 1
    assert b"".join(chunks) == data
    head = store.head(uri)
    assert head is not None
    assert head["Metadata"] == {"digest": "d"}


def test_a_bucket_of_somebody_else_gets_nothing(s3: Any) -> None:
    prefix = f"s3://{BUCKET}/{unique('foreign')}"
    foreign = Store(s3, prefix, expected_owner="999999999999")
    with pytest.raises(errors.AccessDenied):
        foreign.put_once("k", io.BytesIO(b"secret"), {})
    with pytest.raises(errors.AccessDenied):
        foreign.put("k", b"secret", "text/plain")
    assert keys(s3, prefix) == []


def test_the_owner_is_told_with_every_upload_and_not_only_asked_before(
    local_sagemaker: LocalSageMaker, s3: Any
) -> None:
    """Between the look and the upload a bucket can change hands; and an upload in parts is several requests."""
    sent: list[tuple[str, Any]] = []
    watched = local_sagemaker.client("s3")
    watched.meta.events.register(
        "before-parameter-build.s3.*",
        lambda params, model, **_: sent.append((model.name, params.get("ExpectedBucketOwner"))),
    )
    store = Store(watched, f"s3://{BUCKET}/{unique('owner')}", expected_owner=ACCOUNT)
    store.put_once("small", io.BytesIO(b"x"), {})
    store.put_once("large", io.BytesIO(bytes(9 << 20)), {})
    assert {"HeadObject", "PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"} == {
        name for name, _ in sent
    }
    assert {owner for _, owner in sent} == {ACCOUNT}


def test_a_bucket_that_is_not_there_is_named(s3: Any) -> None:
    with pytest.raises(errors.NotFound, match="PutObject for s3://no-such-bucket-here/k"):
        Store(s3, "s3://no-such-bucket-here").put_once("k", io.BytesIO(b""), {})


def test_a_look_at_nothing_gives_none_and_reading_it_an_error(store: Store) -> None:
    assert store.head(store.uri("none")) is None
    with pytest.raises(errors.NotFound, match=r"GetObject for s3://.*/none"):
        content(store, store.uri("none"))


def test_a_small_object_replaces_what_is_there_and_keeps_its_type(store: Store) -> None:
    store.put("answer", b"1", "text/plain")
    uri = store.put("answer", b"{}", "application/json")
    head = store.head(uri)
    assert head is not None
    assert head["ContentType"] == "application/json"
    assert content(store, uri) == b"{}"


def test_deleting_twice_is_no_error(store: Store) -> None:
    uri = store.put("k", b"", "text/plain")
    store.delete(uri)
    store.delete(uri)
    assert store.head(uri) is None


# Directories.


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_directory_is_put_under_the_digest_of_its_content(s3: Any, store: Store, tmp_path: Path) -> None:
    files = {"a.csv": "1,2\n", "sub/b c.csv": "3\n", ".hidden": ""}
    uri = store.put_directory(tree(tmp_path / "one", files))
    assert uri.startswith(store.uri("inputs/"))
    assert uri.endswith("/")
    assert sorted(keys(s3, uri)) == sorted(files)
    assert content(store, f"{uri}sub/b c.csv") == b"3\n"
    assert store.put_directory(tree(tmp_path / "two", files)) == uri


@pytest.mark.parametrize("other", [{"a": "2"}, {"b": "1"}, {"a": "1", "b": ""}])
def test_other_content_or_another_name_is_another_prefix(store: Store, tmp_path: Path, other: dict[str, str]) -> None:
    one = store.put_directory(tree(tmp_path / "one", {"a": "1"}))
    assert store.put_directory(tree(tmp_path / "two", other)) != one


def test_a_single_file_is_put_under_its_name(s3: Any, store: Store, tmp_path: Path) -> None:
    uri = store.put_directory(tree(tmp_path, {"a.csv": "1", "b.csv": "2"}) / "a.csv")
    assert keys(s3, uri) == ["a.csv"]


def test_a_directory_without_files_is_a_bad_input(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    for path in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(errors.BadParameter, match=rf"^inputs='file://{path}'"):
            store.put_directory(path)


# Repacking.


def members(store: Store, uri: str) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content(store, uri))) as tar:
        return {member.name: member for member in tar}


def text(store: Store, uri: str, name: str) -> str:
    with tarfile.open(fileobj=io.BytesIO(content(store, uri))) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read().decode()


def put_package(store: Store, files: Mapping[str, str]) -> str:
    """A package as `core.package` writes it."""
    out = io.BytesIO()
    entries = [
        Entry(name, len(value.encode()), lambda value=value: [value.encode()]) for name, value in sorted(files.items())
    ]
    write_package(entries, out)
    return store.put_once(unique("package"), out, {})[0]


def test_a_repacked_model_has_the_artefact_and_the_package_under_code(store: Store) -> None:
    model = store.put("model.tar.gz", archive({"weights.txt": "w", "sub/more": "m"}), "application/x-tar")
    uri = store.repack(model, put_package(store, {"serve.py": "s", "lib/util.py": "u"}), "digest")
    assert set(members(store, uri)) >= {"weights.txt", "sub/more", "code/serve.py", "code/lib/util.py"}
    assert text(store, uri, "code/lib/util.py") == "u"
    assert text(store, uri, "weights.txt") == "w"
    head = store.head(uri)
    assert head is not None
    assert head["Metadata"]["package-digest"] == "digest"


def test_names_that_tar_can_only_say_in_extended_headers_go_under_code_too(store: Store) -> None:
    model = store.put("model.tar.gz", archive({LONG: "model's"}), "application/x-tar")
    uri = store.repack(model, put_package(store, {LONG: "package's"}), "digest")
    assert text(store, uri, LONG) == "model's"
    assert text(store, uri, f"code/{LONG}") == "package's"


def test_code_that_the_artefact_brings_gives_way_to_the_package(store: Store) -> None:
    files = {"code/old.py": "old", "./code/serve.py": "old", "codec.txt": "stays", "weights": "w"}
    model = store.put("model.tar.gz", archive(files), "application/x-tar")
    uri = store.repack(model, put_package(store, {"serve.py": "new"}), "digest")
    assert sorted(name for name, each in members(store, uri).items() if each.isfile()) == [
        "code/serve.py",
        "codec.txt",
        "weights",
    ]
    assert text(store, uri, "code/serve.py") == "new"


def test_links_modes_and_leading_dots_survive(store: Store) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, kind, target, mode in (
            (".", tarfile.DIRTYPE, "", 0o755),
            ("./run.sh", tarfile.REGTYPE, "", 0o755),
            ("./soft", tarfile.SYMTYPE, "run.sh", 0o777),
            ("./hard", tarfile.LNKTYPE, "./run.sh", 0o755),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, mode
            member.size = 2 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"hi") if member.size else None)
    model = store.put("model.tar.gz", out.getvalue(), "application/x-tar")
    package = store.put("package.tar.gz", out.getvalue(), "application/x-tar")
    found = members(store, store.repack(model, package, "digest"))
    assert sorted(found) == ["code/hard", "code/run.sh", "code/soft", "hard", "run.sh", "soft"]
    for prefix in ("", "code/"):
        assert found[f"{prefix}run.sh"].mode == 0o755
        assert found[f"{prefix}soft"].linkname == "run.sh"
        assert found[f"{prefix}hard"].linkname == f"{prefix}run.sh"


def test_repacking_the_same_again_uploads_nothing(local_sagemaker: LocalSageMaker, store: Store) -> None:
    model = store.put("model.tar.gz", archive({"w": "1"}), "application/x-tar")
    package = put_package(store, {"serve.py": "s"})
    first = store.repack(model, package, "digest")
    before = len(local_sagemaker.requests())
    assert store.repack(model, package, "digest") == first
    assert {each["action"] for each in local_sagemaker.requests()[before:]} == {"HeadObject"}
    assert store.repack(model, package, "other") != first
    store.put("model.tar.gz", archive({"w": "2"}), "application/x-tar")  # a new model at the same place
    assert store.repack(model, package, "digest") != first


@pytest.mark.parametrize("place", ["model.tar.gz", "a b/é%2Fü/model.tar.gz"])
def test_a_repacked_model_tells_what_it_was_made_of(store: Store, place: str) -> None:
    model = store.put(place, archive({"w": "1"}), "application/x-tar")
    package = put_package(store, {"s.py": "s"})
    made = store.head(store.repack(model, package, "digest"))
    assert made is not None
    assert made["Metadata"]["package-digest"] == "digest"
    assert (unquote(made["Metadata"]["model-data"]), unquote(made["Metadata"]["package"])) == (model, package)


def test_a_model_whose_place_is_too_long_for_metadata_is_repacked_all_the_same(store: Store) -> None:
    model = store.put(f"{'é' * 400}/model.tar.gz", archive({"w": "1"}), "application/x-tar")
    made = store.head(store.repack(model, put_package(store, {"s.py": "s"}), "digest"))
    assert made is not None
    assert made["Metadata"] == {"package-digest": "digest"}


def test_the_objects_whose_uris_begin_alike_are_listed_page_by_page(store: Store) -> None:
    names = [f"many/{number:04}" for number in range(1003)]  # S3 lists a thousand at a time
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, b"", "text/plain"), names))
    store.put("other", b"", "text/plain")
    assert list(store.uris(store.uri("many/"))) == [store.uri(name) for name in names]
    assert list(store.uris(store.uri("none/"))) == []
    with pytest.raises(errors.NotFound):
        list(store.uris("s3://no-such-bucket/any"))


def test_a_missing_model_or_package_is_named(store: Store) -> None:
    model = store.put("model.tar.gz", archive({"w": "1"}), "application/x-tar")
    with pytest.raises(errors.NotFound, match=r"There is no model at s3://.*/none"):
        store.repack(store.uri("none"), model, "d")
    with pytest.raises(errors.NotFound, match="none"):
        store.repack(model, store.uri("none"), "d")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a tar archive at all",
        gzip.compress(b"not a tar inside"),
        archive({"w": "x" * 5000})[:-20],
        archive({"w": "x" * 5000})[:60],
    ],
    ids=["empty", "text", "gzip of text", "cut at the end", "cut in the middle"],
)
def test_a_model_that_is_no_whole_archive_is_refused_and_nothing_is_put(s3: Any, store: Store, data: bytes) -> None:
    model = store.put("model.tar.gz", data, "application/x-tar")
    with pytest.raises(errors.BadParameter, match="is not a whole tar archive"):
        store.repack(model, put_package(store, {"serve.py": "s"}), "digest")
    assert keys(s3, store.uri("models/")) == []


class Broken(BaseHTTPRequestHandler):
    """Breaks off in the middle of every object."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"half")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def broken() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_object_that_breaks_off_is_worth_another_try_and_never_taken_for_whole(broken: str) -> None:
    session = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    s3 = session.client("s3", endpoint_url=broken, config=Config(retries={"total_max_attempts": 1}))
    with pytest.raises(errors.ServiceFault, match=r"GetObject for s3://bucket/k") as caught:
        content(Store(s3, "s3://bucket"), "s3://bucket/k")
    assert not isinstance(caught.value.__cause__, ClientError)
