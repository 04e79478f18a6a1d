"""What somebody with access to the bucket or to the tags has changed does not pass for what the commit holds."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from airflow_sm_git.clients.s3 import Store
from airflow_sm_git.clients.trace import trace
from airflow_sm_git.core.deployment import DeploySpec, deploy_requests
from airflow_sm_git.core.names import make_tags
from airflow_sm_git.core.trace import Check, as_text
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.clients.traces import Scene, deleted, node, nodes, replaced
from tests.local.sagemaker_requests import BUCKET, IMAGE, ROLE, client, put, unique

pytestmark = pytest.mark.usefixtures("aws_environment")


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


def verify(asked: str) -> Any:
    return trace(asked, verify=True)


def wrong(found: Any) -> list[Check]:
    return [check for check in found.checks if not check.ok]


def plain(archive: bytes) -> bytes:
    """The tar in an archive, whichever way it was compressed."""
    return gzip.decompress(archive)


def edited(edit: Callable[[bytes, str], bytes]) -> Callable[[bytes], bytes]:
    """A whole and consistent archive in which the files have another content."""

    def change(archive: bytes) -> bytes:
        out = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(archive)) as source,
            tarfile.open(fileobj=out, mode="w:gz") as target,
        ):
            for member in source:
                content = source.extractfile(member)
                text = edit(content.read(), member.name) if content else b""
                member.size = len(text)
                target.addfile(member, io.BytesIO(text))
        return out.getvalue()

    return change


def appended(name: str, text: bytes = b"evil") -> Callable[[bytes], bytes]:
    """An archive with one more member."""

    def change(archive: bytes) -> bytes:
        tar = io.BytesIO(plain(archive))
        with tarfile.open(fileobj=tar, mode="a") as target:
            member = tarfile.TarInfo(name)
            member.size = len(text)
            target.addfile(member, io.BytesIO(text))
        return gzip.compress(tar.getvalue())

    return change


def evil(text: bytes, name: str) -> bytes:
    return text + b"\nevil = 1\n" if name.endswith("serve.py") else text


def test_what_nobody_has_changed_is_verified_and_every_comparison_is_named(scene: Scene) -> None:
    found = verify(scene.endpoint)
    assert (found.verified, found.problems, wrong(found)) == (True, [], [])
    records = scene.records
    model, job = f"model {records['deploy']['model_name']}", f"training job {records['train']['job_name']}"
    compared = [(check.of, check.against) for check in found.checks]
    for who in (model, job):
        for of in (
            "the digest of the bytes in S3",
            *(f"the {m} in the manifest" for m in ("commit", "tree", "repository")),
        ):
            assert (of, who) in compared
    for pair in (
        ("the digest of the bytes in S3", "its metadata"),
        ("the digest of the bytes in S3", "its key"),
        ("what is in the package", records["package"]["manifest_uri"].rpartition("/")[2]),
        ("the digest of the code put into it", model),
        ("what is under code/", "the package"),
        ("the rest", records["train"]["model_data"]),
    ):
        assert pair in compared
    assert as_text(found).endswith(f"Verified: {len(found.checks)} comparisons, all equal.")


def test_each_uri_can_be_verified_by_itself(scene: Scene) -> None:
    package = scene.records["package"]
    for uri in (package["s3_uri"], package["manifest_uri"], scene.model_data, scene.records["train"]["model_data"]):
        found = verify(uri)
        assert (found.verified, found.problems) == (True, []), uri


def test_each_object_is_downloaded_once(server: LocalSageMaker, scene: Scene) -> None:
    before = len(server.requests())
    verify(scene.endpoint)
    asked = [each for each in server.requests()[before:] if each["action"] == "GetObject"]
    assert len(asked) == 4, "package, manifest, the endpoint's archive and the job's"


@pytest.mark.parametrize(
    "change",
    [
        edited(evil),
        edited(lambda text, name: b"" if name == "lib/util.py" else text),
        appended("sitecustomize.py"),
        appended("train.py"),
        lambda archive: gzip.compress(plain(archive) + bytes(10240)),
    ],
    ids=["a line more", "a file emptied", "a file more", "a file twice", "bytes after the end"],
)
def test_a_package_with_another_content_is_found_though_it_is_a_whole_archive(
    server: LocalSageMaker, scene: Scene, change: Callable[[bytes], bytes]
) -> None:
    package = scene.records["package"]
    with replaced(server, package["s3_uri"], change):
        for asked in (scene.endpoint, scene.records["train"]["job_name"], package["s3_uri"], package["manifest_uri"]):
            found = verify(asked)
            assert found.verified is False
            differ = {(check.of, check.against) for check in wrong(found)}
            assert ("the digest of the bytes in S3", "its metadata") in differ
            assert ("the digest of the bytes in S3", "its key") in differ
            assert any(of == "what is in the package" for of, _ in differ)
    assert verify(scene.endpoint).verified is True


def test_the_file_that_was_changed_is_named(server: LocalSageMaker, scene: Scene) -> None:
    with replaced(server, scene.records["package"]["s3_uri"], edited(evil)):
        text = as_text(verify(scene.endpoint))
    assert "DIFFERENT: what is in the package is another: 'serve.py' is not what the manifest says" in text
    assert "DIFFERENT: what is under code/ is 'serve.py' is another; the package says the same files" in text
    assert re.search(r"NOT verified: \d+ comparisons, \d+ differ; 0 problems\.$", text)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"not an archive",
        lambda body: body[:-30],
        lambda body: body[:40] + b"\xff\xff" + body[42:],
        lambda _: b"",
    ],
    ids=["text", "cut", "flipped", "empty"],
)
def test_a_package_that_is_no_whole_archive_is_a_problem_and_the_rest_is_still_verified(
    server: LocalSageMaker, scene: Scene, change: Callable[[bytes], bytes]
) -> None:
    with replaced(server, scene.records["package"]["s3_uri"], change):
        found = verify(scene.endpoint)
    assert found.verified is False
    assert any("not a whole tar archive" in problem for problem in found.problems)
    assert nodes(found, "TrainingJob")


def test_the_same_content_compressed_by_another_zlib_is_the_same_package(server: LocalSageMaker, scene: Scene) -> None:
    with replaced(server, scene.records["package"]["s3_uri"], lambda body: gzip.compress(plain(body), 1)):
        assert verify(scene.endpoint).verified is True


def forged(server: LocalSageMaker, scene: Scene) -> tuple[bytes, dict[str, str], dict[str, Any]]:
    """A changed package with the metadata and the manifest that fit it."""
    s3, uri = client(server, "s3"), scene.records["package"]["s3_uri"]
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = edited(evil)(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    digest = hashlib.sha256(plain(body)).hexdigest()
    _, _, key = scene.records["package"]["manifest_uri"].removeprefix("s3://").partition("/")
    manifest = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        contents = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    for entry in manifest["files"]:
        text = contents[entry["path"]]
        entry |= {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    return body, {"digest": digest, "commit": scene.commit}, {**manifest, "digest": digest}


def test_a_forger_who_also_writes_metadata_and_manifest_is_betrayed_by_the_tags(
    server: LocalSageMaker, scene: Scene
) -> None:
    body, metadata, manifest = forged(server, scene)
    package = scene.records["package"]
    with (
        replaced(server, package["s3_uri"], lambda _: body, metadata),
        replaced(server, package["manifest_uri"], lambda _: json.dumps(manifest).encode(), {}),
    ):
        found = verify(scene.records["train"]["job_name"])
    differ = {(check.of, check.against) for check in wrong(found)}
    of = "the digest of the bytes in S3"
    assert differ == {(of, "its key"), (of, f"training job {scene.records['train']['job_name']}")}
    assert found.verified is False


@pytest.mark.parametrize(
    ("changes", "of"),
    [
        ({"commit": "0" * 40}, "the commit in the manifest"),
        ({"tree": "0" * 40}, "the tree in the manifest"),
        ({"repository": "https://example.com/evil.git"}, "the repository in the manifest"),
        ({"files": []}, "what is in the package"),
        ({"digest": "0" * 64}, "what is in the package"),
    ],
)
def test_a_manifest_that_says_something_else_than_the_tags_is_found(
    server: LocalSageMaker, scene: Scene, changes: dict[str, Any], of: str
) -> None:
    def change(body: bytes) -> bytes:
        return json.dumps({**json.loads(body), **changes}).encode()

    with replaced(server, scene.records["package"]["manifest_uri"], change):
        found = verify(scene.endpoint)
    assert found.verified is False
    assert {check.of for check in wrong(found)} == {of}


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"{}", b'{"files": 1}', b'{"files": [{}]}'])
def test_a_manifest_that_is_none_is_a_problem(server: LocalSageMaker, scene: Scene, body: bytes) -> None:
    with replaced(server, scene.records["package"]["manifest_uri"], lambda _: body):
        for asked in (scene.endpoint, scene.records["package"]["manifest_uri"], scene.records["package"]["s3_uri"]):
            found = verify(asked)
            assert found.verified is False
            assert any("manifest" in problem for problem in found.problems)


def test_a_missing_manifest_or_package_is_a_problem(server: LocalSageMaker, scene: Scene) -> None:
    package = scene.records["package"]
    with deleted(server, package["manifest_uri"]):
        found = verify(scene.endpoint)
        assert found.verified is False
        assert "no manifest of this commit lies beside the package" in node(found, "Commit").problems
        assert wrong(found) == []
        assert verify(package["s3_uri"]).verified is False
    with deleted(server, package["s3_uri"]):
        found = verify(scene.endpoint)
        assert found.verified is False
        assert node(found, "Package").problems[0] == "it is gone: there is no such object"


@pytest.mark.parametrize(
    ("change", "of"),
    [
        (edited(evil), "what is under code/"),
        (appended("code/sitecustomize.py"), "what is under code/"),
        (appended("./code/../code/serve.py"), "what is under code/"),
        (edited(lambda text, name: b"backdoor" if name == "weights.txt" else text), "the rest"),
        (appended("more.bin"), "the rest"),
    ],
    ids=["code", "more code", "code in disguise", "weights", "more weights"],
)
def test_an_archive_that_was_changed_after_it_was_repacked_is_found(
    server: LocalSageMaker, scene: Scene, change: Callable[[bytes], bytes], of: str
) -> None:
    with replaced(server, scene.model_data, change):
        for asked in (scene.endpoint, scene.model_data):
            found = verify(asked)
            assert found.verified is False
            assert [check.of for check in wrong(found)] == [of]


def test_weights_that_were_changed_at_the_training_job_are_found(server: LocalSageMaker, scene: Scene) -> None:
    with replaced(server, scene.records["train"]["model_data"], edited(lambda text, name: text + b"x")):
        found = verify(scene.endpoint)
    assert [check.of for check in wrong(found)] == ["the rest"]


def test_tags_that_were_changed_contradict_what_the_container_is_told(server: LocalSageMaker, scene: Scene) -> None:
    sagemaker = client(server, "sagemaker")
    arn = scene.records["train"]["job_arn"]
    before = sagemaker.list_tags(ResourceArn=arn)["Tags"]
    sagemaker.add_tags(ResourceArn=arn, Tags=make_tags({"commit": "0" * 40}))
    try:
        found = verify(scene.records["train"]["job_name"])
    finally:
        sagemaker.add_tags(ResourceArn=arn, Tags=before)
    assert found.verified is False
    expected = f"its tag says commit {'0' * 40}, its environment {scene.commit}"
    assert node(found, "TrainingJob").problems == [expected]


def test_a_model_that_claims_a_package_and_serves_what_the_script_left_in_code_is_not_verified(
    server: LocalSageMaker, scene: Scene
) -> None:
    """Everything that is claimed exists and is whole; but it is not what the container runs."""
    sagemaker, name = client(server, "sagemaker"), unique("claims")
    honest = sagemaker.describe_model(ModelName=scene.records["deploy"]["model_name"])
    container = {**honest["PrimaryContainer"], "ModelDataUrl": scene.records["train"]["model_data"]}
    tags = sagemaker.list_tags(ResourceArn=honest["ModelArn"])["Tags"]
    role = honest["ExecutionRoleArn"]
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=role, Tags=tags)
    found = verify(name)
    assert wrong(found) == []
    assert found.verified is False
    assert found.problems == [
        f"model {name}: its tags name a package, but no archive of it says that one was put into it",
        f"model data {container['ModelDataUrl']}: nothing tells whether it is the archive that was deployed",
    ]


@pytest.mark.parametrize("changed", [False, True])
def test_an_archive_that_is_served_as_it_is_is_held_against_what_s3_told_of_it(
    server: LocalSageMaker, scene: Scene, changed: bool
) -> None:
    sagemaker, name, data = client(server, "sagemaker"), unique("as-it-is"), scene.records["train"]["model_data"]
    bucket, _, key = data.removeprefix("s3://").partition("/")
    etag = client(server, "s3").head_object(Bucket=bucket, Key=key)["ETag"]
    spec = DeploySpec(name, IMAGE, ROLE, "us-east-1", data, scene.records["package"], model_version=etag, hosting="s3")
    tags = make_tags({"namespace": "tests", "commit": scene.commit})
    sagemaker.create_model(**(request := deploy_requests(spec, tags).model))
    with replaced(server, data, edited(lambda text, name: text + b"x")) if changed else nullcontext():
        found = verify(request["ModelName"])
    assert [check.of for check in found.checks if not check.ok] == ["the ETag of the archive in S3"] * changed
    assert found.verified is not changed, found.problems


@pytest.mark.parametrize("key", ["commit", "tree", "digest", "repo", "package"])
def test_an_endpoint_that_says_it_runs_other_code_than_its_model_is_not_verified(
    server: LocalSageMaker, scene: Scene, key: str
) -> None:
    sagemaker, arn = client(server, "sagemaker"), scene.records["deploy"]["endpoint_arn"]
    before = steps.tags_of(server, arn)[key]
    sagemaker.add_tags(ResourceArn=arn, Tags=make_tags({key: "another"}))
    found = verify(scene.endpoint)
    sagemaker.add_tags(ResourceArn=arn, Tags=make_tags({key: before}))
    assert found.verified is False
    assert [f"its tag says {key} another, but it serves {before}" in problem for problem in found.problems] == [True]


def test_a_fork_that_shares_commit_and_package_changes_nothing(server: LocalSageMaker, scene: Scene) -> None:
    uri = scene.records["package"]["manifest_uri"]
    fork = f"{uri[: -len('abcdefgh2345.json')]}abcdefgh2345.json"
    body = b"".join(Store(client(server, "s3"), f"s3://{BUCKET}").read(uri))
    forked = json.dumps({**json.loads(body), "repository": "https://example.com/fork.git"})
    put(server, forked, fork.removeprefix(f"s3://{BUCKET}/"))
    try:
        found = verify(scene.endpoint)
        assert node(found, "Commit").facts["manifests"] == sorted([fork, uri])
        assert (found.verified, found.problems) == (True, [])
    finally:
        client(server, "s3").delete_object(Bucket=BUCKET, Key=fork.removeprefix(f"s3://{BUCKET}/"))


def test_nothing_to_compare_is_not_verified(server: LocalSageMaker, scene: Scene) -> None:
    config = scene.records["deploy"]["endpoint_config_name"]
    with server.fault("denied", action="DescribeModel", times=100):
        found = verify(config)
    assert (found.checks, found.verified) == ([], False)
    assert as_text(found).endswith("NOT verified: there was nothing to compare.")
