"""A job's files: channels in, archives unpacked, results out."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.local.workspace import DataError, Workspace, extract, inside, parse_uri, relative_key
from tests.local.jobs import BUCKET, Lab, archive, lab_in


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_in(tmp_path) as made:
        yield made


@pytest.fixture
def place(lab: Lab) -> Iterator[Workspace]:
    made = Workspace(lab.root / "work", lab.objects)
    yield made
    made.remove()


def download(place: Workspace, uri: str, mode: str = "File", **source: Any) -> dict[str, str]:
    channel = {"ChannelName": "c", "DataSource": {"S3DataSource": {"S3Uri": uri, "S3DataType": "S3Prefix", **source}}}
    place.download_channel(channel, mode=mode, role="arn:aws:iam::000000000000:role/r", region="eu-west-1")
    folder = place.data / "c"
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("key", "prefix", "relative"),
    [
        ("data/train/a/b.csv", "data/train", "a/b.csv"),
        ("data/train/a/b.csv", "data/train/", "a/b.csv"),
        ("data/train.csv", "data/train.csv", "train.csv"),
        ("data/train.csv", "data/tr", "train.csv"),
        ("data/train2/x", "data/train", "train2/x"),
        ("a", "", "a"),
    ],
)
def test_keys_become_paths_in_the_channel(key: str, prefix: str, relative: str) -> None:
    assert relative_key(key, prefix) == relative


def test_a_prefix_is_downloaded_with_its_folders(lab: Lab, place: Workspace) -> None:
    lab.put("data/a.csv", "1")
    lab.put("data/deep/b.csv", "2")
    lab.put("data/folder/", "")
    lab.put("else/c.csv", "3")
    assert download(place, f"s3://{BUCKET}/data/") == {"a.csv": "1", "deep/b.csv": "2"}


def test_fast_file_mode_gives_files_too(lab: Lab, place: Workspace) -> None:
    assert download(place, lab.put("data/a.csv", "1"), mode="FastFile") == {"a.csv": "1"}


def test_a_manifest_names_the_files(lab: Lab, place: Workspace) -> None:
    for name in ("a", "b/c", "unwanted"):
        lab.put(f"data/{name}", name)
    manifest = lab.put("manifest", json.dumps([{"prefix": f"s3://{BUCKET}/data/"}, "a", "b/c"]))
    assert download(place, manifest, S3DataType="ManifestFile") == {"a": "a", "b/c": "b/c"}


def test_a_manifest_that_is_none_is_refused_by_name(lab: Lab, place: Workspace) -> None:
    with pytest.raises(DataError, match="s3://bucket/manifest is not a manifest"):
        download(place, lab.put("manifest", "a\nb"), S3DataType="ManifestFile")


@pytest.mark.parametrize("uri", [f"s3://{BUCKET}/nothing/", "s3://no-such-bucket/data"])
def test_no_data_fails_with_awss_words_naming_channel_uri_role_and_region(place: Workspace, uri: str) -> None:
    with pytest.raises(DataError) as error:
        download(place, uri)
    text = str(error.value)
    assert text.startswith(f'ClientError: Data download failed:No S3 objects found under S3 URL "{uri}"')
    for part in ('channel "c"', "(eu-west-1)", "arn:aws:iam::000000000000:role/r"):
        assert part in text


def test_what_is_not_supported_is_refused_by_name(place: Workspace) -> None:
    with pytest.raises(DataError, match=r"'c'.*Pipe"):
        download(place, "s3://b/x", mode="Pipe")
    with pytest.raises(DataError, match=r"'c'.*AugmentedManifestFile"):
        download(place, "s3://b/x", S3DataType="AugmentedManifestFile")
    with pytest.raises(DataError, match=r"'c'.*S3DataSource only"):
        place.download_channel({"ChannelName": "c", "DataSource": {}}, mode="File", role="", region="")


def test_a_key_that_would_leave_the_channel_is_refused(lab: Lab, place: Workspace) -> None:
    lab.put("data/../../../escaped", "x")
    with pytest.raises(DataError, match="cannot be a file of the channel"):
        download(place, f"s3://{BUCKET}/data/")


def test_keys_that_cannot_both_be_files_fail_with_the_key(lab: Lab, place: Workspace) -> None:
    lab.put("data/a", "x")
    lab.put("data/a/b", "x")
    with pytest.raises(DataError, match="s3://bucket/data/a/b"):
        download(place, f"s3://{BUCKET}/data/")


def test_an_archive_is_unpacked_with_its_modes(lab: Lab, place: Workspace) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, mode in (("run.sh", 0o4755), ("plain", 0o444)):
            member = tarfile.TarInfo(name)
            member.mode = mode
            tar.addfile(member)
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "run.sh"
        tar.addfile(link)
    made.seek(0)
    place.unpack(lab.put("a.tar.gz", made), place.code)
    assert (place.code / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert os.access(place.code / "plain", os.W_OK)
    assert os.readlink(place.code / "link") == "run.sh"


def hostile(*members: tuple[str, bytes, str]) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    made.seek(0)
    return made


@pytest.mark.parametrize(
    "members",
    [
        [("../out", tarfile.REGTYPE, "")],
        [("/out", tarfile.REGTYPE, "")],
        [("link", tarfile.SYMTYPE, "../../out")],
        [("link", tarfile.SYMTYPE, "/etc/passwd")],
        [("hard", tarfile.LNKTYPE, "../out")],
        [("pipe", tarfile.FIFOTYPE, "")],
        [("device", tarfile.CHRTYPE, "")],
        [("l", tarfile.SYMTYPE, "d/x/.."), ("d/x", tarfile.SYMTYPE, ".."), ("l/out", tarfile.REGTYPE, "")],
    ],
)
def test_a_member_that_would_leave_the_directory_is_refused(
    tmp_path: Path, members: list[tuple[str, bytes, str]]
) -> None:
    (target := tmp_path / "a" / "target").mkdir(parents=True)
    with pytest.raises(DataError, match=r"name\.tar\.gz: member .* outside"):
        extract(hostile(*members), target, "name.tar.gz")
    assert not list(tmp_path.rglob("out"))


def test_what_is_no_archive_is_refused_by_name(lab: Lab, place: Workspace) -> None:
    with pytest.raises(DataError, match=r"s3://bucket/a.tar.gz cannot be unpacked"):
        place.unpack(lab.put("a.tar.gz", "text"), place.code)
    with pytest.raises(DataError, match="s3://bucket/missing"):
        place.unpack(f"s3://{BUCKET}/missing", place.code)
    cut = archive({"f": os.urandom(100_000)}).getvalue()[:50_000]
    with pytest.raises(DataError, match="cannot be unpacked"):
        place.unpack(lab.put("cut.tar.gz", cut), place.code)


def test_results_go_out_as_one_archive(lab: Lab, place: Workspace) -> None:
    (place.model / "deep").mkdir()
    (place.model / "deep" / "w").write_text("weights")
    uri = place.upload_directory(place.model, "model", f"s3://{BUCKET}/out", compress=True)
    assert uri == f"s3://{BUCKET}/out/model.tar.gz"
    assert lab.members("out/model.tar.gz") == {"deep/w": b"weights"}


def test_results_go_out_uncompressed_under_a_prefix(lab: Lab, place: Workspace) -> None:
    (place.model / "deep").mkdir()
    (place.model / "deep" / "w").write_text("weights")
    uri = place.upload_directory(place.model, "model", f"s3://{BUCKET}/out", compress=False)
    assert uri == f"s3://{BUCKET}/out/model/"
    assert lab.get("out/model/deep/w") == b"weights"


def test_an_empty_directory_is_not_uploaded(lab: Lab, place: Workspace) -> None:
    assert place.upload_directory(place.model, "model", f"s3://{BUCKET}/out", compress=True) is None
    assert lab.keys() == []


@pytest.mark.parametrize("compress", [True, False])
def test_a_directory_replaced_by_a_link_is_refused_and_nothing_of_the_host_is_uploaded(
    lab: Lab, place: Workspace, compress: bool
) -> None:
    secret = lab.root / "host"
    secret.mkdir()
    (secret / "data").mkdir()
    (secret / "data" / "key").write_text("secret")
    place.model.rmdir()
    place.model.symlink_to(secret)
    shutil.rmtree(place.output)
    place.output.symlink_to(secret)
    for folder in (place.model, place.output / "data"):
        with pytest.raises(DataError, match=r"^ClientError: /opt/ml/\S+ is, or lies below, a symbolic link"):
            place.upload_directory(folder, "model", f"s3://{BUCKET}/out", compress=compress)
    (secret / "failure").write_text("secret")
    assert place.failure() is None
    assert lab.keys("out") == []


def test_links_inside_are_not_followed_out_of_the_directory(lab: Lab, place: Workspace) -> None:
    (lab.root / "key").write_text("secret")
    (lab.root / "host").mkdir()
    (lab.root / "host" / "other").write_text("secret")
    (place.model / "m").write_text("mine")
    (place.model / "same").symlink_to("m")
    (place.model / "folder").symlink_to(lab.root / "host")
    assert place.upload_directory(place.model, "files", f"s3://{BUCKET}/out", compress=False)
    assert lab.keys("out") == ["out/files/m", "out/files/same"]
    (place.model / "key").symlink_to(lab.root / "key")
    with pytest.raises(DataError, match=r"^ClientError: 'key' is a symbolic link"):
        place.upload_directory(place.model, "files", f"s3://{BUCKET}/out", compress=False)
    place.upload_directory(place.model, "model", f"s3://{BUCKET}/out", compress=True)
    assert lab.members("out/model.tar.gz") == {"m": b"mine"}


def test_a_directory_that_is_gone_is_empty_and_a_file_in_its_place_is_an_error(lab: Lab, place: Workspace) -> None:
    place.model.rmdir()
    assert place.upload_directory(place.model, "model", f"s3://{BUCKET}/out", compress=True) is None
    place.model.write_text("I am a file")
    with pytest.raises(DataError, match=r"^ClientError: /opt/ml/model cannot be uploaded: Not a directory$"):
        place.upload_directory(place.model, "model", f"s3://{BUCKET}/out", compress=True)


@pytest.mark.parametrize("compress", [True, False])
def test_directories_nested_too_deeply_are_an_error_without_our_paths_and_are_removed(
    lab: Lab, place: Workspace, compress: bool
) -> None:
    script = "import os\nfor _ in range(60): os.mkdir('d' * 200); os.chdir('d' * 200)\nopen('f', 'w').close()"
    subprocess.run([sys.executable, "-c", script], cwd=place.model, check=True)
    with pytest.raises(DataError, match=r"^ClientError: /opt/ml/model") as caught:
        place.upload_directory(place.model, "model", f"s3://{BUCKET}/out", compress=compress)
    assert str(lab.root) not in str(caught.value)
    place.remove()
    assert not place.root.exists()


def test_removal_does_not_change_what_a_link_points_to(lab: Lab, place: Workspace) -> None:
    (lab.root / "theirs").write_text("")
    (lab.root / "theirs").chmod(0o444)
    (place.model / "link").symlink_to(lab.root / "theirs")
    place.model.chmod(0o555)
    place.remove()
    assert not place.root.exists()
    assert (lab.root / "theirs").stat().st_mode & 0o777 == 0o444


def test_a_missing_output_bucket_fails_with_its_name(place: Workspace) -> None:
    (place.model / "w").write_text("x")
    with pytest.raises(DataError, match="s3://missing/out"):
        place.upload_directory(place.model, "model", "s3://missing/out", compress=True)


def test_removal_takes_read_only_directories_too(place: Workspace) -> None:
    (place.model / "d").mkdir()
    (place.model / "d" / "f").write_text("x")
    (place.model / "d").chmod(0o500)
    place.remove()
    assert not place.root.exists()
    place.remove()


def test_uris_and_paths_are_checked() -> None:
    assert parse_uri("s3://b/k/l") == ("b", "k/l")
    for bad in ("/k", "https://b/k", "s3:///k"):
        with pytest.raises(DataError):
            parse_uri(bad)
    assert inside(Path("/c"), "a/./b") == Path("/c/a/b")
