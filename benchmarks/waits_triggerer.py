"""A real ``airflow triggerer`` in a home of its own, and what it costs."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.waits_rows import DAG_FILE, HELD

INTERVAL = 5  # seconds between two looks, on both sides
AGE = 600.0  # seconds that the jobs have run already: their last change is no news


@dataclass(frozen=True)
class Cost:
    """What a triggerer's processes have used up: CPU seconds since they began, and resident bytes."""

    at: float
    cpu: float
    memory: int


class Server:
    """The stub server.

    :param port: of the stub on the loopback.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order (`waits_server.Stub.control`), and hear what was counted."""
        request = urllib.request.Request(self.url, json.dumps(order).encode())  # noqa: S310  ours, over loopback
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
        return found


@contextmanager
def server(python: Path, code: Path) -> Iterator[Server]:
    """Run the stub server in a process of its own."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(python), "-m", "benchmarks.waits_server", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(code)})
    try:
        found = Server(port)
        until(lambda: _answers(found), 60, "the stub server")
        yield found
    finally:
        process.kill()
        process.wait()


def _answers(found: Server) -> bool:
    try:
        found.ask(do="counts")
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


def until(condition: Callable[[], bool], seconds: float, what: str, pause: float = 0.5) -> None:
    """Wait for something.

    :raises TimeoutError: it did not come.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)


class Triggerer:
    """An Airflow home with deferred tasks, and its triggerer.

    :param home: a folder that is not there yet.
    :param python: the interpreter with Airflow and the side's triggers.
    :param code: folder that holds the package ``benchmarks`` and nothing else.
    :param url: of SageMaker.
    """

    def __init__(self, home: Path, python: Path, code: Path, url: str) -> None:
        self.home, self.python = home, python
        self.probe = home / "probe.jsonl"
        self.output = home / "output.txt"
        connection = {
            "conn_type": "aws",
            "login": "key",
            "password": "secret",
            "extra": {"region_name": "us-east-1", "endpoint_url": url},
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS"))}
        self.environment = kept | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONPATH": str(code),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self, side: str, names: Sequence[str]) -> None:
        """Make the database, with a held trigger for each job; `waits_rows.insert`."""
        (self.home / "dags").mkdir(parents=True)
        (self.home / "dags" / "waits.py").write_text(DAG_FILE)
        self._run("-m", "airflow", "db", "migrate")
        self._run("-m", "airflow", "dags", "reserialize")
        order = {"side": side, "names": names, "age": AGE, "interval": INTERVAL, "probe": str(self.probe)}
        self._run("-m", "benchmarks.waits_rows", said=json.dumps(order))

    def _run(self, *arguments: str, said: str = "") -> None:
        command = [str(self.python), *arguments]
        # Elsewhere the folder that this runs in would come before everything, with the checkout in it.
        done = subprocess.run(
            command, cwd=self.home, env=self.environment, input=said, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-3000:]}")

    @contextmanager
    def running(self, capacity: int) -> Iterator[None]:
        """Run the triggerer; it and all its processes are gone afterwards.

        :param capacity: triggers that it may run.
        """
        command = [str(self.python), "-m", "airflow", "triggerer", "--skip-serve-logs", "--capacity", str(capacity)]
        with self.output.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                cwd=self.home,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            until(self.probe.exists, 120, "the probe")
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def cost(self) -> Cost:
        """What its processes have used up until now."""
        assert self._process is not None, "not running"
        parent = psutil.Process(self._process.pid)
        cpu, memory = 0.0, 0
        for process in [parent, *parent.children(recursive=True)]:
            times = process.cpu_times()
            cpu += times.user + times.system
            memory += process.memory_info().rss
        return Cost(time.time(), cpu, memory)

    def release(self, count: int) -> None:
        """Let so many held triggers go."""
        with closing(sqlite3.connect(self.home / "airflow.db", timeout=60)) as database, database:
            query = "SELECT id FROM trigger WHERE queue = ? ORDER BY id LIMIT ?"
            database.execute(f"UPDATE trigger SET queue = NULL WHERE id IN ({query})", (HELD, count))  # noqa: S608

    def resumed(self) -> list[tuple[int, str]]:
        """Map index of each task instance whose event has come, and when, as the database has it (UTC).

        :raises ChildProcessError: the triggerer has ended by itself; so does `seen`.
        """
        self._check()
        with closing(sqlite3.connect(f"file:{self.home / 'airflow.db'}?mode=ro", uri=True, timeout=60)) as database:
            query = "SELECT map_index, scheduled_dttm FROM task_instance WHERE state = 'scheduled'"
            return list(database.execute(query))

    def seen(self) -> list[dict[str, float]]:
        """What the probe wrote; see `waits_probe.Probe`."""
        self._check()
        return [json.loads(line) for line in self.probe.read_text().splitlines() if line.endswith("}")]

    def _check(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise ChildProcessError(f"the triggerer has ended: {self.output.read_text(errors='replace')[-500:]}")

    def stalled(self, since: float, until: float, why: str = "late") -> float:
        """The event loop's longest delay between two times, in seconds.

        :param why: ``collected`` for the longest garbage collection instead.
        """
        return max((line[why] for line in self.seen() if since <= line["at"] <= until), default=0.0)

    def blocked(self) -> int:
        """How often Airflow's own watchdog complained."""
        return self.output.read_text(errors="replace").count("async thread was blocked")
