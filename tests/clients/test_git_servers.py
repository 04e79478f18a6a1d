"""Servers that refuse, dawdle or fall silent; for each, plain git first, and the server's log as the witness."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.errors import BadParameter, CommitGone, NotSupported, RefNotFound, RemoteError
from airflow_sm_git.core.source import Source, parse_source
from tests.clients.packaging import DIGEST, FILES, git_at_work, package
from tests.git_server import FIRST_COMMIT, GitServer, Repository, daemon, git

NOISE = random.Random(5).randbytes(300_000)  # noqa: S311


@pytest.fixture
def shas(repository: Repository) -> list[str]:
    """Four commits: the first has the fixed content, the second noise beside it; the last one is on another branch."""
    first = repository.commit(FILES, executable=["src/train.py"], links={"src/link": "nested/serve.py"})
    second = repository.commit({"data.bin": NOISE})
    third = repository.commit({"README.md": b"3"})
    repository.tag("noted", second, annotated=True)
    return [first, second, third, repository.commit({"src/train.py": b"side"}, branch="side", start=first)]


def plain(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What git itself does in an empty repository."""
    if not folder.exists():
        git("init", "-q", "--bare", folder)
    command = ["git", "-c", "protocol.version=2", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, check=False, text=True)


def blobs_here(folder: Path) -> bool:
    """Whether the noise came along."""
    name = git("hash-object", "--stdin", stdin=NOISE)
    return name in git("-C", folder, "cat-file", "--batch-all-objects", "--batch-check")


def everything_works(client: GitClient, url: str, shas: list[str]) -> None:
    """Use each thing that reaches a remote, on any server."""
    first, second, third, side = shas
    assert package(client, url, second)[0].digest == DIGEST
    assert client.resolve(Source(url)).commit == third
    assert client.resolve(Source(url, second[:9])).commit == second
    assert client.resolve(Source(url, first)).commit == first
    assert client.resolve(Source(url, "main"), pinned=side).commit == side
    assert client.resolve(Source(url), paths=["src"]).commit == first
    assert client.resolve(Source(url), as_of=datetime.fromtimestamp(FIRST_COMMIT + 7200, UTC)).commit == second
    assert [found.commit for found in client.commits(Source(url), since=first, paths=["src", "data.bin"])] == [second]
    assert [found.commit for found in client.commits(Source(url), limit=2)] == [second, third]
    assert package(client, url, side)[1]["train.py"] == b"side"
    config = {"repo": url, "branch": "main", "commit": first}
    assert client.resolve(parse_source(None, None, config)).commit == first
    for ref in ("noted", second):
        assert client.resolve(parse_source(None, None, config | {"branch": ref})).commit == first
    with pytest.raises(BadParameter, match="is not on 'main'"):
        client.resolve(parse_source(None, None, config | {"commit": side}))
    with pytest.raises(CommitGone):
        client.resolve(Source(url), pinned="1" * 40)
    with pytest.raises(RefNotFound):
        client.resolve(Source(url, "2" * 40))


def test_a_server_that_gives_all_it_is_asked_for_is_asked_for_little(
    server: GitServer, client: GitClient, shas: list[str], tmp_path: Path
) -> None:
    done = plain(tmp_path / "plain", "fetch", "-q", "--depth=1", server.url("models.git"), shas[1])
    assert not done.returncode and blobs_here(tmp_path / "plain")
    server.requests.clear()
    everything_works(client, server.url("models.git"), shas)
    # All the noise that came is that of the range over data.bin.
    assert server.sent < 1.1 * len(NOISE)


def test_a_server_without_filters(server: GitServer, client: GitClient, shas: list[str], tmp_path: Path) -> None:
    server.no_filters = True
    url = server.url("models.git")
    done = plain(tmp_path / "plain", "fetch", "-q", "--filter=blob:none", "--depth=1", url, shas[1])
    assert not done.returncode and "filtering not recognized" in done.stderr and blobs_here(tmp_path / "plain")
    server.requests.clear()
    assert package(client, url, shas[1])[0].digest == DIGEST
    assert server.packs == 1 and server.sent < 1.1 * len(NOISE)
    everything_works(client, url, shas)


def test_a_server_that_gives_nothing_by_name(
    server: GitServer, client: GitClient, shas: list[str], tmp_path: Path
) -> None:
    server.no_names = True
    url = server.url("models.git")
    done = plain(tmp_path / "plain", "fetch", "-q", "--depth=1", url, shas[1])
    assert done.returncode and "not our ref" in done.stderr and not server.packs
    everything_works(client, url, shas)
    packs = server.packs
    assert package(client, url, shas[0])[0].digest == DIGEST
    assert server.packs == packs


@pytest.mark.parametrize("ref", ["noted", 1])
def test_a_branch_is_looked_for_also_where_nothing_is_given_by_name(
    server: GitServer, client: GitClient, shas: list[str], ref: str | int
) -> None:
    server.no_names = True
    branch = shas[ref] if isinstance(ref, int) else ref
    config = {"repo": server.url("models.git"), "branch": branch, "commit": "main"}
    with pytest.raises(BadParameter, match=f"is not on '{branch}'"):
        client.resolve(parse_source(None, None, config))


def test_a_server_that_gives_nothing_by_name_and_has_no_filters_gives_everything_once(
    server: GitServer, client: GitClient, shas: list[str], tmp_path: Path
) -> None:
    server.no_names = server.no_filters = True
    url = server.url("models.git")
    done = plain(tmp_path / "plain", "fetch", "-q", "--filter=blob:none", "--depth=1", url, shas[1])
    assert done.returncode and "not our ref" in done.stderr and not server.packs
    done = plain(tmp_path / "whole", "fetch", "-q", "--filter=blob:none", url, "refs/heads/*:refs/heads/*")
    assert not done.returncode and blobs_here(tmp_path / "whole")
    server.requests.clear()
    assert package(client, url, shas[1])[0].digest == DIGEST
    assert server.packs == 1
    everything_works(client, url, shas)


def test_a_server_that_dawdles_is_waited_for(
    server: GitServer, shas: list[str], client: GitClient, tmp_path: Path
) -> None:
    server.pace = (50, 0.02)
    url = server.url("models.git")
    impatient = plain(tmp_path / "plain", "-c", "http.lowSpeedLimit=100000", "-c", "http.lowSpeedTime=1", "fetch", url)
    assert impatient.returncode and "Operation too slow" in impatient.stderr
    server.requests.clear()
    assert package(client, url, shas[1])[0].digest == DIGEST
    assert server.packs == 2 and all(request.sent == request.length for request in server.requests)


@pytest.fixture
def nothing_left_running(tmp_path: Path) -> Iterator[None]:
    """After the test no git is at work in its folder."""
    yield
    assert git_at_work(tmp_path) == []


@pytest.mark.usefixtures("nothing_left_running")
@pytest.mark.parametrize("call", ["package", "resolve", "commits"])
def test_a_server_that_falls_silent_in_mid_pack_is_given_up(
    server: GitServer, shas: list[str], tmp_path: Path, call: str
) -> None:
    server.halt = 100
    client = GitClient(tmp_path / "cache", allowed_schemes={"http"}, timeout=1.5)
    url = server.url("models.git")
    started = time.monotonic()
    with pytest.raises(RemoteError, match=rf"git fetch on {url} took longer than 1\.5 s"):
        {
            "package": lambda: package(client, url, shas[1]),
            "resolve": lambda: client.resolve(Source(url, shas[1])),
            "commits": lambda: client.commits(Source(url), limit=3),
        }[call]()
    assert time.monotonic() - started < 15
    assert any(request.in_mid_pack for request in server.requests)
    server.halt = None
    assert package(client, url, shas[1])[0].digest == DIGEST


@pytest.mark.usefixtures("nothing_left_running")
@pytest.mark.parametrize("scheme", ["git", "file"])
def test_other_ways_to_a_server_work_where_the_setting_allows_them(
    repository: Repository, shas: list[str], tmp_path: Path, scheme: str
) -> None:
    with daemon(repository.path.parent) as root:
        url = f"{root}/models.git" if scheme == "git" else repository.url
        with pytest.raises(BadParameter, match=f"'{scheme}"):
            GitClient(tmp_path / "strict").resolve(Source(url))
        client = GitClient(tmp_path / "cache", allowed_schemes={scheme}, timeout=60)
        everything_works(client, url, shas)


def test_a_server_of_files_alone_is_refused_with_the_remedy(
    repository: Repository, client: GitClient, shas: list[str]
) -> None:
    git("-C", repository.path, "update-server-info")
    files = partial(SimpleHTTPRequestHandler, directory=str(repository.path.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            with pytest.raises(NotSupported, match=r"no git to answer.*Serve it with"):
                client.resolve(Source(f"http://127.0.0.1:{server.server_address[1]}/models.git"))
        finally:
            server.shutdown()
            thread.join()


def test_a_commit_that_no_branch_leads_to_is_found_if_the_server_gives_it(
    repository: Repository, server: GitServer, client: GitClient, shas: list[str], tmp_path: Path
) -> None:
    lost = repository.commit({"src/train.py": b"lost"}, branch="gone")
    git("-C", repository.path, "update-ref", "-d", "refs/heads/gone")
    url = server.url("models.git")
    assert client.resolve(parse_source(None, None, {"repo": url, "commit": lost})).commit == lost
    assert package(client, url, lost)[1]["train.py"] == b"lost"
    with pytest.raises(BadParameter, match="is not on 'main'"):
        client.resolve(parse_source(None, None, {"repo": url, "branch": "main", "commit": lost}))
    server.no_names = True
    other = GitClient(tmp_path / "other", allowed_schemes={"http"})
    with pytest.raises(RefNotFound, match=f"no commit {lost}"):
        other.resolve(parse_source(None, None, {"repo": url, "commit": lost}))
