"""``export-ignore`` acts as in ``git archive``; nothing else of ``.gitattributes`` acts at all."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.errors import PathNotFound
from tests.git_server import Repository

FILES = {
    "train.py": b"",
    "notes.md": b"",
    "src/train.py": b"print('$Format:%H$')\r\n",
    "src/README.md": b"",
    "src/keep/README.md": b"",
    "src/keep/deep/x.txt": b"",
    "src/tests/test_a.py": b"",
    "src/data/big.bin": b"",
    "src/data/keep.bin": b"",
    "lib/util.py": b"",
    "lib/tests/t.py": b"",
}
ATTRIBUTES: dict[str, Mapping[str, bytes]] = {
    "above": {".gitattributes": b"tests export-ignore\n*.md export-ignore\nlib/util.py export-ignore\n"},
    "inside": {"src/.gitattributes": b"/tests/ export-ignore\nkeep/deep export-ignore\n"},
    "nested": {
        ".gitattributes": b"*.md export-ignore\n",
        "src/keep/.gitattributes": b"*.md -export-ignore\nx.txt export-ignore\n",
    },
    "patterns": {
        ".gitattributes": b"src/data/** export-ignore\nsrc/data/keep.bin !export-ignore\n**/deep export-ignore\n"
    },
    "macro": {".gitattributes": b"[attr]private export-ignore\n*.bin private\n"},
    "quoted": {".gitattributes": b'"src/README.md" export-ignore\n# src/train.py export-ignore\n'},
    "nothing": {".gitattributes": b"*.py text eol=lf filter=lfs export-subst ident\n"},
}


def members(client: GitClient, repository: Repository, commit: str, **content: object) -> dict[str, bytes]:
    out = io.BytesIO()
    client.package(repository.url, commit, out=out, **content)  # type: ignore[arg-type]
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]


def archived(repository: Repository, commit: str, *paths: str) -> set[str]:
    """What ``git archive`` takes."""
    command = ["git", "-C", str(repository.path), "archive", commit, *paths]
    tar = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {member.name for member in archive if not member.isdir()}


@pytest.fixture
def client(tmp_path: Path) -> GitClient:
    return GitClient(tmp_path / "cache", allowed_schemes=["file"])


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_what_is_left_out_is_what_git_archive_leaves_out(client: GitClient, tmp_path: Path, name: str) -> None:
    repository = Repository(tmp_path / "repository")
    commit = repository.commit({**FILES, **ATTRIBUTES[name]})
    whole = members(client, repository, commit, source_dir=".", entry_point="train.py")
    assert set(whole) == archived(repository, commit)
    inside = members(client, repository, commit, source_dir="src", entry_point="train.py")
    assert {f"src/{path}" for path in inside} == archived(repository, commit, "src")
    assert (set(whole) == {*FILES, *ATTRIBUTES[name]}) == (name == "nothing"), "each of the others leaves something out"
    assert inside["train.py"] == FILES["src/train.py"], "not a byte of a file is changed"


def test_directories_among_the_dependencies_lose_what_is_not_to_be_exported(client: GitClient, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    commit = repository.commit({**FILES, **ATTRIBUTES["above"]})
    found = members(client, repository, commit, source_dir=None, entry_point="train.py", dependencies=["lib"])
    assert set(found) == {"train.py"}


def test_what_is_named_itself_is_packaged_whatever_the_attributes_say(client: GitClient, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    commit = repository.commit({**FILES, **ATTRIBUTES["above"]})
    named = {"entry_point": "lib/util.py", "dependencies": ["notes.md", "src/tests"]}
    assert set(members(client, repository, commit, source_dir=None, **named)) == {
        "util.py",
        "notes.md",
        "tests/test_a.py",
    }


def test_an_entry_point_that_is_not_to_be_exported_is_said_to_be_so(client: GitClient, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    commit = repository.commit({**FILES, ".gitattributes": b"train.py export-ignore\n"})
    with pytest.raises(PathNotFound, match=r"entry_point 'train\.py' is marked export-ignore"):
        members(client, repository, commit, source_dir="src", entry_point="train.py")
