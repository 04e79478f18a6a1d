"""A manifest tells of its package what anyone can check, and a changed package does not pass."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.manifest import ManifestWriter, check_manifest
from airflow_sm_git.core.package import write_package
from tests.core.fixed_package import DIGEST, fixed, one


def made(*entries: Any) -> tuple[dict[str, Any], io.BytesIO]:
    """A package's manifest, and the package."""
    out, written = io.BytesIO(), io.BytesIO()
    manifest = ManifestWriter(written)
    digest = write_package(entries, out, manifest=manifest)
    manifest.finish({"repository": "https://example.com/r", "digest": digest.sha256})
    return json.loads(written.getvalue()), out


def test_a_manifest_names_every_member_with_what_it_holds() -> None:
    manifest, _ = made(one("b.py", b"two", executable=True), one("a.txt", b""), one("link", b"b.py", kind="symlink"))
    assert manifest == {
        "schema": 1,
        "repository": "https://example.com/r",
        "digest": manifest["digest"],
        "files": [
            {
                "path": "a.txt",
                "mode": "0644",
                "size": 0,
                "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            },
            {
                "path": "b.py",
                "mode": "0755",
                "size": 3,
                "sha256": "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
            },
            {"path": "link", "target": "b.py"},
        ],
    }


def test_a_package_passes_its_own_manifest() -> None:
    manifest, package = made(*fixed())
    check_manifest(manifest, package)
    assert manifest["digest"] == DIGEST


def test_a_manifest_of_nothing_is_json_too() -> None:
    manifest, package = made()
    assert manifest["files"] == []
    check_manifest(manifest, package)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ([one("a.py", b"evil"), one("b.py", b"2")], "a.py"),
        ([one("a.py", b"1", executable=True), one("b.py", b"2")], "a.py"),
        ([one("a.py", b"b.py", kind="symlink"), one("b.py", b"2")], "a.py"),
        ([one("a.py", b"1")], "b.py"),
        ([one("a.py", b"1"), one("b.py", b"2"), one("c.py", b"3")], "c.py"),
    ],
)
def test_a_changed_package_is_named_by_its_first_difference(other: list[Any], named: str) -> None:
    manifest, _ = made(one("a.py", b"1"), one("b.py", b"2"))
    _, package = made(*other)
    with pytest.raises(BadParameter, match=rf"archive='{named}'"):
        check_manifest(manifest, package)


def test_the_same_files_in_another_tar_are_not_the_same_package() -> None:
    manifest, _ = made(one("a.py", b"1"))
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as tar:
        member = tarfile.TarInfo("a.py")
        member.size, member.mode = 1, 0o644
        tar.addfile(member, io.BytesIO(b"1"))
    package.seek(0)
    with pytest.raises(BadParameter, match="not the digest"):
        check_manifest(manifest, package)
