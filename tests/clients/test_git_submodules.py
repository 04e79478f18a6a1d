"""Submodules: their files at the recorded commits, and each host's credentials for that host alone."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.credentials import Credentials
from airflow_sm_git.core.errors import BadParameter, GitError, RemoteError, UnsafeTree
from airflow_sm_git.core.submodules import read_modules, resolve_url
from tests.git_server import Repository, git, serve


def with_submodule(repository: Repository, path: str, url: str, commit: str, **more: bytes) -> str:
    """A commit of a repository that records another one's commit."""
    modules = f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n'.encode()
    repository.commit({".gitmodules": modules, "train.py": b"import vendored\n", **more})
    parent = repository.sha("main")
    lines = f"commit refs/heads/main\ncommitter A <a@example.com> 1704067200 +0000\ndata 1\nx\nfrom {parent}\n"
    lines += f"M 160000 {commit} {path}\n"
    git("-C", repository.path, "fast-import", "--quiet", "--force", stdin=lines.encode())
    return repository.sha("main")


def packaged(client: GitClient, url: str, commit: str, source_dir: str = ".", **more: object) -> dict[str, bytes]:
    out = io.BytesIO()
    options = {"source_dir": source_dir, "entry_point": "train.py", "submodules": True, **more}
    client.package(url, commit, out=out, **options)  # type: ignore[arg-type]
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]


@pytest.fixture
def client(tmp_path: Path) -> GitClient:
    return GitClient(tmp_path / "cache", allowed_schemes=["file", "http"])


def test_the_files_of_the_recorded_commit_lie_in_the_submodules_place(client: GitClient, tmp_path: Path) -> None:
    inner, outer = Repository(tmp_path / "inner"), Repository(tmp_path / "outer")
    recorded = inner.commit({"vendored.py": b"recorded", "deep/x.py": b"x"}, executable=["vendored.py"])
    inner.commit({"vendored.py": b"later"})
    commit = with_submodule(outer, "lib/vendored", "../inner", recorded)
    found = packaged(client, outer.url, commit)
    assert found.keys() == {".gitmodules", "train.py", "lib/vendored/vendored.py", "lib/vendored/deep/x.py"}
    assert found["lib/vendored/vendored.py"] == b"recorded"
    plain = packaged(client, outer.url, commit, source_dir=None, dependencies=["lib/vendored"])  # type: ignore[arg-type]
    assert plain.keys() == {"train.py", "vendored/vendored.py", "vendored/deep/x.py"}


def test_without_being_asked_for_a_submodule_is_refused_and_the_option_named(client: GitClient, tmp_path: Path) -> None:
    inner, outer = Repository(tmp_path / "inner"), Repository(tmp_path / "outer")
    commit = with_submodule(outer, "vendored", inner.url, inner.commit({"a.py": b""}))
    with pytest.raises(UnsafeTree, match=r"'vendored' is a submodule.*submodules=True"):
        packaged(client, outer.url, commit, submodules=False)


def test_submodules_within_submodules_are_followed(client: GitClient, tmp_path: Path) -> None:
    first, second, third = (Repository(tmp_path / name) for name in ("first", "second", "third"))
    commit = with_submodule(second, "third", "../third", third.commit({"c.py": b"3"}))
    commit = with_submodule(first, "second", "../second", commit)
    assert packaged(client, first.url, commit)["second/third/c.py"] == b"3"


def test_two_submodules_may_share_a_repository_and_files(client: GitClient, tmp_path: Path) -> None:
    inner, outer = Repository(tmp_path / "inner"), Repository(tmp_path / "outer")
    old, new = inner.commit({"a.py": b"old", "same.py": b"s"}), inner.commit({"a.py": b"new"})
    with_submodule(outer, "one", "../inner", old)
    modules = b'[submodule "1"]\npath=one\nurl=../inner\n[submodule "2"]\npath=two\nurl=../inner\n'
    commit = with_submodule(outer, "two", "../inner", new)
    lines = f"commit refs/heads/main\ncommitter A <a@example.com> 1704067200 +0000\ndata 1\nx\nfrom {commit}\n".encode()
    lines += b"M 100644 inline .gitmodules\ndata %d\n%s\n" % (len(modules), modules)
    git("-C", outer.path, "fast-import", "--quiet", "--force", stdin=lines)
    found = packaged(client, outer.url, outer.sha("main"))
    assert (found["one/a.py"], found["two/a.py"], found["two/same.py"]) == (b"old", b"new", b"s")


@pytest.mark.parametrize("same_host", [True, False])
def test_credentials_go_to_their_own_host_only(tmp_path: Path, same_host: bool) -> None:
    inner = Repository(tmp_path / "theirs" / "inner")
    recorded = inner.commit({"a.py": b"a"})
    outer = Repository(tmp_path / "ours" / "outer")
    Repository(tmp_path / "ours" / "inner").commit({"a.py": b"a"})
    client = GitClient(tmp_path / "cache", allowed_schemes=["http"], credentials=Credentials("ada", "secret"))
    with serve(tmp_path / "ours", login=("ada", "secret")) as ours, serve(tmp_path / "theirs") as theirs:
        url = "../inner" if same_host else theirs.url("inner")
        commit = with_submodule(outer, "vendored", url, recorded)
        assert packaged(client, ours.url("outer"), commit)["vendored/a.py"] == b"a"
        assert bool(theirs.requests) != same_host
        assert {request.authorization for request in theirs.requests} <= {None}
        assert any(request.authorization for request in ours.requests)


def test_a_commit_that_the_submodules_remote_lacks_is_named(client: GitClient, tmp_path: Path) -> None:
    inner, outer = Repository(tmp_path / "inner"), Repository(tmp_path / "outer")
    inner.commit({"a.py": b""})
    commit = with_submodule(outer, "vendored", inner.url, "1" * 40)
    with pytest.raises(GitError, match=f"'vendored' is recorded at {'1' * 40}, which {inner.url} does not have"):
        packaged(client, outer.url, commit)


def test_a_submodule_that_gitmodules_does_not_name_is_refused(client: GitClient, tmp_path: Path) -> None:
    outer = Repository(tmp_path / "outer")
    outer.commit({"train.py": b""})
    commit = outer.commit({}, submodules=["vendored"])
    with pytest.raises(UnsafeTree, match=r"'vendored' is a submodule, but \.gitmodules does not say"):
        packaged(client, outer.url, commit)


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% /tmp/pwned", "-u./x", "https://user:word@example.com/x", "ftp://h/x"]
)
def test_the_url_of_a_submodule_keeps_the_rules_of_all_urls(client: GitClient, tmp_path: Path, url: str) -> None:
    outer = Repository(tmp_path / "outer")
    commit = with_submodule(outer, "vendored", url, "1" * 40)
    with pytest.raises(BadParameter, match="submodules=") as refused:
        packaged(client, outer.url, commit)
    assert "word" not in str(refused.value)


def test_a_submodules_remote_that_is_not_there_is_named(client: GitClient, tmp_path: Path) -> None:
    outer = Repository(tmp_path / "outer")
    commit = with_submodule(outer, "vendored", "../nowhere", "1" * 40)
    with pytest.raises(RemoteError, match="nowhere"):
        packaged(client, outer.url, commit)


@pytest.mark.parametrize(
    ("parent", "url"),
    [
        ("https://example.com/team/outer.git", "../inner.git"),
        ("https://example.com/team/outer.git/", "../../other/inner"),
        ("https://example.com/team/outer", "./inner"),
        ("ssh://git@example.com:2222/team/outer", "../inner"),
        ("git@example.com:team/outer.git", "../inner.git"),
        ("git@example.com:outer.git", "../inner.git"),
        ("file:///srv/git/outer", "../inner/"),
        ("https://example.com/outer", "https://elsewhere.example/inner"),
    ],
)
def test_relative_urls_lead_where_git_takes_them(tmp_path: Path, parent: str, url: str) -> None:
    work = tmp_path / "work"
    git("init", "-q", work)
    git("-C", work, "remote", "add", "origin", parent)
    (work / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = x\n\turl = {url}\n')
    git("-C", work, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},x")
    git("-C", work, "submodule", "--quiet", "init")
    assert resolve_url(parent, url) == git("-C", work, "config", "submodule.x.url").rstrip("/")


def test_of_gitmodules_only_paths_and_urls_are_read() -> None:
    config = [
        ("submodule.a.b.path", "lib/x/"),
        ("submodule.a.b.url", "../x"),
        ("submodule.a.b.update", "!touch /tmp/pwned"),
        ("submodule.half.path", "y"),
        ("core.sshcommand", "touch /tmp/pwned"),
    ]
    assert read_modules(config) == {"lib/x": "../x"}


def test_git_itself_agrees_on_what_is_in_the_package(client: GitClient, tmp_path: Path) -> None:
    inner, outer = Repository(tmp_path / "inner"), Repository(tmp_path / "outer")
    recorded = inner.commit({"a.py": b"a", ".gitattributes": b"secret.txt export-ignore\n", "secret.txt": b"s"})
    commit = with_submodule(outer, "vendored", "../inner", recorded)
    allowed = ["-c", "protocol.file.allow=always"]
    git(*allowed, "clone", "-q", "--recurse-submodules", outer.path, tmp_path / "clone")
    listed = git("-C", tmp_path / "clone", "ls-files", "--recurse-submodules").split()
    assert set(packaged(client, outer.url, commit)) == set(listed) - {"vendored/secret.txt"}
