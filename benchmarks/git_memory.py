"""Memory of packaging and uploading: RSS of our process and all that it starts, above what it was before.

The git server and the local SageMaker are other processes, and not counted. Each measurement runs in a new interpreter.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import boto3
import psutil

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.clients.s3 import Store
from airflow_sm_git.core.source import Source
from airflow_sm_git.local import daemon
from benchmarks.big_repository import served
from benchmarks.table import Row

LIMIT = 64.0
_FILE = 500 << 20
_FILES = 50_000


def rows() -> list[Row]:
    """One figure for a large file and one for many files."""
    return [
        Row(f"packaging and uploading {what}: RSS above start", _measured(kind), "MB", limit=LIMIT)
        for kind, what in (("large", "one file of 500 MB"), ("many", "50,000 files"))
    ]


def _measured(kind: str) -> float:
    with tempfile.TemporaryDirectory(prefix="sm-git-bench-") as folder:
        root = Path(folder)
        _make(root / "served" / "repository", kind)
        with served(root / "served") as host:
            info = daemon.start(root / "sagemaker")
            try:
                place = [info.url, info.region, info.access_key_id, info.secret_access_key, info.account]
                command = [sys.executable, "-m", "benchmarks.git_memory", f"{host.url}/repository", str(root), *place]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
            finally:
                daemon.stop(root / "sagemaker")
    return float(done.stdout.split()[-1])


def _make(path: Path, kind: str) -> None:
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True)
    subprocess.run(["git", "-C", path, "config", "uploadpack.allowFilter", "true"], check=True)
    with subprocess.Popen(["git", "-C", path, "fast-import", "--quiet"], stdin=subprocess.PIPE) as git:
        assert git.stdin
        git.stdin.write(b"commit refs/heads/main\ncommitter A <a@example.com> 1704067200 +0000\ndata 1\nx\n")
        git.stdin.write(b"M 100644 inline src/train.py\ndata 1\nx\n")
        if kind == "large":
            git.stdin.write(b"M 100644 inline src/large.bin\ndata %d\n" % _FILE)
            with open("/dev/urandom", "rb") as noise:
                for _ in range(_FILE >> 20):
                    git.stdin.write(noise.read(1 << 20))
            git.stdin.write(b"\n")
        for number in range(_FILES if kind == "many" else 0):
            content = b"%d\n" % number
            path_bytes = b"src/some/package%d/module_%d.py" % (number % 500, number)
            git.stdin.write(b"M 100644 inline %s\ndata %d\n%s\n" % (path_bytes, len(content), content))
    assert git.returncode == 0


class _Peak(threading.Thread):
    """Looks every 10 ms at what this process and its descendants hold."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._me = psutil.Process()
        self.start_rss = self._me.memory_info().rss
        self.peak = self.start_rss
        self.over = False

    def run(self) -> None:
        while not self.over:
            total = 0
            for process in [self._me, *self._me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue  # it has ended meanwhile
            self.peak = max(self.peak, total)
            time.sleep(0.01)


def _main(url: str, root: str, endpoint: str, region: str, key: str, secret: str, account: str) -> None:
    client = GitClient(Path(root) / "cache", allowed_schemes=["http"])
    s3 = boto3.client(
        "s3", endpoint_url=endpoint, region_name=region, aws_access_key_id=key, aws_secret_access_key=secret
    )
    store = Store(s3, f"s3://sagemaker-{region}-{account}/bench")
    store.put_once("warm", io.BytesIO(b"x"), {})
    client.resolve(Source(url))  # GitPython and botocore are loaded at the start
    peak = _Peak()
    peak.start()
    with tempfile.TemporaryFile(dir=root) as out:
        commit = client.resolve(Source(url)).commit
        info = client.package(url, commit, source_dir="src", entry_point="train.py", out=out)
        store.put_once(f"{info.digest}/sourcedir.tar.gz", out, {"digest": info.digest})
    peak.over = True
    peak.join()
    print((peak.peak - peak.start_rss) / (1 << 20))


if __name__ == "__main__":
    _main(*sys.argv[1:])
