from __future__ import annotations

import io
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.errors import (
    BadParameter,
    CommitGone,
    PathNotFound,
    UnsafeTree,
)
from tests.clients.packaging import (
    COMMIT,
    DIGEST,
    FILES,
    fixed,
    in_another_process,
    package,
)
from tests.git_server import Repository, git


def test_the_digest_of_a_fixed_repository_is_a_constant(repository: Repository, client: GitClient) -> None:
    commit = fixed(repository)
    info, contents = package(client, repository.url, commit)
    assert (commit, info.digest) == (COMMIT, DIGEST)
    assert contents == {
        "train.py": FILES["src/train.py"],
        "nested/serve.py": FILES["src/nested/serve.py"],
        "grüße.txt": FILES["src/grüße.txt"],
        "link": FILES["src/nested/serve.py"],
    }
    assert (info.entry_point, info.source_dir, info.file_count) == ("train.py", "src", 4)
    assert info.tree == repository.sha(f"{commit}^{{tree}}")


@pytest.mark.parametrize(
    ("umask", "variables"),
    [
        ("000", {"TZ": "Pacific/Kiritimati", "LC_ALL": "C"}),
        ("077", {"TZ": "America/Los_Angeles", "LC_ALL": "C.UTF-8"}),
        ("027", {"TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR.UTF-8", "PYTHONUTF8": "0"}),
        ("022", {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONHASHSEED": "7"}),
    ],
)
def test_umask_locale_and_time_zone_do_not_change_the_digest(
    repository: Repository, tmp_path: Path, umask: str, variables: dict[str, str]
) -> None:
    commit = fixed(repository)
    assert in_another_process(tmp_path / "c", repository.url, commit, umask=umask, **variables) == [DIGEST, ""]


def test_equal_trees_of_different_commits_are_one_package(repository: Repository, client: GitClient) -> None:
    first = repository.commit(FILES)
    second = repository.commit({"README.md": b"changed"})
    infos = [package(client, repository.url, commit)[0] for commit in (first, second)]
    assert infos[0].digest == infos[1].digest
    assert infos[0].tree != infos[1].tree


def test_the_package_starts_where_the_file_stands(repository: Repository, client: GitClient) -> None:
    commit = repository.commit(FILES)
    out = io.BytesIO(b"before" + b"x" * 100_000)
    out.seek(6)
    info = client.package(repository.url, commit, source_dir=None, entry_point="src/train.py", out=out)
    assert out.getvalue()[:6] == b"before" and len(out.getvalue()) == 6 + info.size


def test_the_entry_point_alone_and_dependencies_are_packaged(repository: Repository, client: GitClient) -> None:
    commit = repository.commit(FILES)
    wanted = {"source_dir": None, "entry_point": "src/nested/serve.py", "dependencies": ["lib", "README.md"]}
    info, contents = package(client, repository.url, commit, **wanted)
    assert info.entry_point == "serve.py"
    assert contents.keys() == {"serve.py", "lib/util.py", "README.md"}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"source_dir": "scr"}, "no source_dir 'scr'. Did you mean 'src'"),
        ({"entry_point": "tarin.py"}, "Did you mean 'train.py'"),
        ({"dependencies": ["lib/utils.py"]}, "Did you mean 'lib/util.py'"),
    ],
)
def test_a_path_that_the_commit_lacks_says_what_there_is(
    repository: Repository, client: GitClient, wanted: dict[str, object], said: str
) -> None:
    commit = repository.commit(FILES)
    with pytest.raises(PathNotFound) as error:
        package(client, repository.url, commit, **wanted)
    assert said in str(error.value)


def test_a_path_out_of_the_repository_is_refused(repository: Repository, client: GitClient) -> None:
    commit = repository.commit(FILES)
    with pytest.raises(BadParameter, match=r"source_dir='\.\./\.\./etc'"):
        package(client, repository.url, commit, source_dir="../../etc")


def test_links_submodules_and_pointers_are_refused_by_name(repository: Repository, client: GitClient) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    repository.commit(FILES)
    for said, more in {
        "'passwd' → '/etc/passwd'": {"links": {"src/passwd": "/etc/passwd"}},
        "'out' → '../README.md'": {"links": {"src/out": "../README.md"}},
        "'src/sub' is a submodule": {"submodules": ["src/sub"]},
        "'data.bin' is a Git LFS pointer": {"files": {"src/data.bin": pointer}},
        "are one name": {"files": {"src/TRAIN.py": b""}},
    }.items():
        commit = repository.commit(**more, branch="odd", start=repository.sha("main"))  # type: ignore[arg-type]
        with pytest.raises(UnsafeTree) as error:
            package(client, repository.url, commit)
        assert said in str(error.value)


def test_a_raw_tree_with_dot_git_in_it_is_refused(repository: Repository, client: GitClient) -> None:
    blob = git("-C", repository.path, "hash-object", "-w", "--stdin", stdin=b"print()")
    entries = [b"100644 " + name + b"\0" + bytes.fromhex(blob) for name in (b".GIT", b"train.py")]
    make = ("-C", repository.path, "hash-object", "-w", "--stdin", "--literally", "-t")
    evil = git(*make, "tree", stdin=b"".join(entries))
    root = git(*make, "tree", stdin=b"40000 src\0" + bytes.fromhex(evil))
    who = "A <a@example.com> 1704067200 +0000"
    commit = git(*make, "commit", stdin=f"tree {root}\nauthor {who}\ncommitter {who}\n\nx\n".encode())
    repository.move("evil", commit)
    with pytest.raises(UnsafeTree, match="disguise"):
        package(client, repository.url, commit)


def test_a_short_sha_is_no_commit_to_package(repository: Repository, client: GitClient) -> None:
    with pytest.raises(BadParameter, match="full SHA"):
        package(client, repository.url, "abcdef1")


def test_a_commit_that_is_gone_cannot_be_packaged(repository: Repository, client: GitClient) -> None:
    repository.commit(FILES)
    with pytest.raises(CommitGone, match="0000 that this run is pinned to"):
        package(client, repository.url, "0" * 40)
