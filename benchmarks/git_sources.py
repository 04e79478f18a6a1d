"""From a commit to an archive, beside the SageMaker SDK's own way (``git_clone_repo``, then its tar), in one run.

The SDK runs in its own environment and is timed inside of it, its imports left out. Neither side uploads.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.source import Source
from benchmarks.big_repository import FIRST, Host, make, served
from benchmarks.table import Row
from tests.peer_environments import peer_python

COMMITS, MEGABYTES, RANGE = 3_000, 300, 100
_SDK = "sagemaker SDK 2.257.7"
_PEER = """
import json, sys, tempfile, time, os
from sagemaker.git_utils import git_clone_repo
from sagemaker.utils import create_tar_file

def once():
    began = time.perf_counter()
    found = git_clone_repo({"repo": "https://big.example/big", "branch": "main"}, "train.py", "src")
    source = found["source_dir"]
    out = create_tar_file([os.path.join(source, name) for name in os.listdir(source)])
    return time.perf_counter() - began

print(json.dumps([once() for _ in range(int(sys.argv[1]))]))
"""


def rows(times: int = 3, *, commits: int = COMMITS, megabytes: int = MEGABYTES) -> list[Row]:
    """:param times: measurements for each median; the SDK is measured so often, too."""
    with tempfile.TemporaryDirectory(prefix="sm-git-bench-") as folder:
        root = Path(folder)
        make(root / "served" / "big", commits=commits, megabytes=megabytes)
        with served(root / "served") as host:
            theirs = _sdk(root, host, times)
            return [*_cold(root, host, times, commits, theirs), *_range(root, host, min(RANGE, commits // 2), theirs)]


class _Spent:
    """What something cost: seconds, bytes received, bytes on the disk."""

    def __init__(self, host: Host, folder: Path, work: Callable[[], object], count: int = 1) -> None:
        before, began = host.sent(), time.perf_counter()
        work()
        self.seconds = (time.perf_counter() - began) / count
        self.received = (host.sent() - before) / count
        self.disk = _disk(folder) / count


def _sdk(root: Path, host: Host, times: int) -> _Spent:
    home = root / "sdk"
    (home / "tmp").mkdir(parents=True)
    (home / ".gitconfig").write_text(f'[url "{host.url}/"]\n\tinsteadOf = https://big.example/\n')
    python = peer_python("sagemaker-sdk", ["sagemaker==2.257.7"])
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home / "tmp")}
    answers: list[str] = []

    def work() -> None:
        command = [str(python), "-c", _PEER, str(times)]
        done = subprocess.run(command, env=environment, cwd=home, check=True, capture_output=True, text=True)
        answers.append(done.stdout.splitlines()[-1])

    spent = _Spent(host, home / "tmp", work, times)
    spent.seconds = statistics.median(json.loads(answers[0]))
    return spent


def _cold(root: Path, host: Host, times: int, commits: int, theirs: _Spent) -> list[Row]:
    source = Source(url=f"{host.url}/big", ref="main")
    half = datetime.fromtimestamp(FIRST + 30 * commits, UTC)

    def ours(name: str, source_dir: str = "src", entry_point: str = "train.py", **how: object) -> _Spent:
        def work(cache: Path) -> None:
            _package(_client(cache), source, source_dir, entry_point, **how)

        caches = [root / f"{name}-{number}" for number in range(times)]
        return _median([_Spent(host, cache, partial(work, cache)) for cache in caches])

    clones = [root / f"clone-{number}" for number in range(times)]
    code = ours("cold")
    plain = _median([_Spent(host, at, partial(_sparse_clone, source.url, at)) for at in clones])
    whole = ours("whole", ".", "src/train.py")
    as_of = ours("as-of", as_of=half)
    against = "git clone --depth 1 --filter=blob:none --sparse"
    return [
        Row("cold: commit to archive", code.seconds, "s", _SDK, theirs.seconds, theirs.seconds / 20),
        Row("cold: received", code.received / 1e3, "kB", _SDK, theirs.received / 1e3, theirs.received / 5e5),
        Row("cold: on the disk", code.disk / 1e3, "kB", _SDK, theirs.disk / 1e3, theirs.disk / 1e5),
        Row("cold: commit to archive", code.seconds, "s", against, plain.seconds),
        Row("cold: received", code.received / 1e3, "kB", against, plain.received / 1e3),
        Row("the whole tree", whole.seconds, "s", _SDK, theirs.seconds),
        Row("as_of half-way", as_of.seconds, "s", _SDK, theirs.seconds),
    ]


def _range(root: Path, host: Host, count: int, theirs: _Spent) -> list[Row]:
    source = Source(url=f"{host.url}/big", ref="main")
    digests: list[str] = []
    firsts: list[float] = []

    def work() -> None:
        began = time.perf_counter()
        client = _client(root / "range")
        for commit in client.commits(source, limit=count, paths=["src"]):
            digests.append(_digest(client, source.url, commit.commit))
            firsts.append(time.perf_counter() - began)

    spent = _Spent(host, root / "range", work)
    other = _client(root / "checked")  # which fetches each commit by itself
    named = [other.resolve(Source(source.url, f"{commit.commit}")) for commit in other.commits(source, limit=count)]
    assert digests == [_digest(other, source.url, commit.commit) for commit in named], "the digests differ"
    each = (spent.seconds - firsts[0]) / (count - 1)
    multiplied = f"{_SDK}, one commit times {count}"
    return [
        Row(f"{count} commits", spent.seconds, "s", multiplied, theirs.seconds * count, theirs.seconds * count / 200),
        Row(f"{count} commits: each after the first", each * 1e3, "ms", _SDK, theirs.seconds * 1e3, 30),
        Row(f"{count} commits: received", spent.received / 1e3, "kB", multiplied, theirs.received * count / 1e3),
    ]


def _client(cache: Path) -> GitClient:
    return GitClient(cache, allowed_schemes=["http"])


def _package(client: GitClient, source: Source, source_dir: str, entry_point: str, **how: object) -> None:
    commit = client.resolve(source, **how).commit  # type: ignore[arg-type]
    client.package(source.url, commit, source_dir=source_dir, entry_point=entry_point, out=io.BytesIO())


def _digest(client: GitClient, url: str, commit: str) -> str:
    return client.package(url, commit, source_dir="src", entry_point="train.py", out=io.BytesIO()).digest


def _sparse_clone(url: str, at: Path) -> None:
    options = ["--quiet", "--depth", "1", "--filter=blob:none", "--sparse"]
    subprocess.run(["git", "clone", *options, url, at], check=True)
    subprocess.run(["git", "-C", at, "sparse-checkout", "set", "src"], check=True)


def _median(all_spent: list[_Spent]) -> _Spent:
    return sorted(all_spent, key=lambda spent: spent.seconds)[len(all_spent) // 2]


def _disk(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())
