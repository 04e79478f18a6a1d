"""``airflow standalone`` in a home of its own: scheduler, triggerer, DAG processor, API server, as a user has them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from tests.peer_environments import CHECKOUT, airflow_python

PATIENCE = 240.0


@dataclass
class LiveAirflow:
    """A running Airflow.

    :param home: its ``AIRFLOW_HOME``.
    :param url: its API server for users. Tasks have another: where one serves both, on SQLite, a user's request that
        waits for the database's lock can keep the task's request that holds it from ending, until one of them gives up
        (``log_action`` in Airflow's api_fastapi/logging/decorators.py commits on the event loop).
    :param output: file with what all its processes say.
    :param process: the parent of them all.
    :param environment: environment variables of its processes.
    :param python: their interpreter.
    """

    home: Path
    url: str
    output: Path
    process: subprocess.Popen[bytes]
    environment: Mapping[str, str]
    python: Path
    _token: str = ""
    _writing: threading.Lock = field(default_factory=threading.Lock)
    _for_users: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def log_files(self, dag_id: str, run_id: str, task_id: str, files: str = "*.trigger.*.log") -> str:
        """What the triggerer, or others, wrote into files of their own as the log of a task."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return "".join(file.read_text() for file in sorted(folder.glob(files)))

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request to the REST API, again as long as it finds SQLite's database locked.

        :param path: below ``/api/v2/``.
        """
        if not self._token:
            self._token = self._request("GET", "/auth/token")["access_token"]
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with nullcontext() if method == "GET" else self._writing:  # see `url`
                    return self._request(method, f"/api/v2/{path}", body)
            except urllib.error.HTTPError as error:
                text = error.read().decode()
                # Newer ones hide what their database said.
                locked = "database is locked" in text.lower() or (error.code == 500 and "Database error" in text)
                assert locked and time.monotonic() < deadline, f"{method} {path}: {error.code} {text}"
                time.sleep(0.5)

    def wait_for_dags(self, *dag_ids: str) -> None:
        """Wait until DAGs are there; fails at once if a DAG file cannot be imported."""

        def there() -> bool:
            errors = self.call("GET", "importErrors")["import_errors"]
            assert not errors, errors
            return set(dag_ids) <= {dag["dag_id"] for dag in self.call("GET", "dags")["dags"]}

        self.eventually(there, f"DAGs {dag_ids}")
        for dag_id in dag_ids:
            self.call("PATCH", f"dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run as the user interface does; returns its id."""
        body = {"conf": dict(conf or {}), "logical_date": datetime.now(UTC).isoformat()}
        return str(self.call("POST", f"dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def clear(self, dag_id: str, run_id: str, *task_ids: str) -> set[str]:
        """Clear tasks of a run, or all of them, as the user interface's dialog does when nothing in it is changed.

        :returns: the ids of the tasks that were cleared: those that were asked for, what is downstream of them, and
            the setups and teardowns that Airflow adds.
        """
        if not task_ids:
            before = self.states(dag_id, run_id)
            self.call("POST", f"dags/{dag_id}/dagRuns/{quote(run_id)}/clear", {"dry_run": False, "only_failed": False})
            return set(before)
        extent = {"include_downstream": True, "include_future": False, "include_past": False, "include_upstream": False}
        body = {"dag_run_id": run_id, "dry_run": False, "only_failed": False, **extent}
        body["task_ids"] = [[task_id, -1] for task_id in task_ids]
        cleared = self.call("POST", f"dags/{dag_id}/clearTaskInstances", body)["task_instances"]
        return {ti["task_id"].rpartition(".")[2] for ti in cleared}

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """All runs of a DAG, in the order of their logical dates."""
        return list(self.call("GET", f"dags/{dag_id}/dagRuns?order_by=logical_date")["dag_runs"])

    def states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """How each task of a run stands, by task id without its group."""
        found = self.call("GET", f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances")["task_instances"]
        return {ti["task_id"].rpartition(".")[2]: ti["state"] for ti in found}

    def ended(self, dag_id: str, run_id: str) -> str:
        """Wait for a run's end; returns its state."""
        state = ""

        def over() -> bool:
            nonlocal state
            state = self.call("GET", f"dags/{dag_id}/dagRuns/{quote(run_id)}")["state"]
            return state in ("success", "failed")

        self.eventually(over, f"the end of {dag_id} {run_id}", lambda: str(self.states(dag_id, run_id)))
        return state

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """A value that a task pushed."""
        path = f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{quote(task_id)}/xcomEntries/{key}"
        return self.call("GET", f"{path}?deserialize=false&stringify=false")["value"]

    def processes(self, part: str) -> list[psutil.Process]:
        """This Airflow's processes of a kind, such as ``triggerer``, and their children; not the users' API server."""
        titles = (f"airflow {part}", f"airflow {part.replace('-', '_')}")  # both are in use
        found = [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(title in " ".join(process.info["cmdline"] or []) for title in titles) and self._is_mine(process)
        ]
        return found + [child for each in found for child in each.children(recursive=True) if child not in found]

    def kill(self, part: str) -> int:
        """SIGKILL for them; how many there were."""
        killed = self.processes(part)
        for process in killed:
            process.kill()
        psutil.wait_procs(killed, timeout=10)
        return len(killed)

    def start(self, part: str) -> None:
        """Start another in the place of one that has ended, as whoever supervises Airflow does."""
        # The port for logs may still be taken; they are read from the disk.
        options = ["--skip-serve-logs"] if part in ("scheduler", "triggerer") else []
        self._started.append(self._run(part, *options))

    def serve_users(self) -> None:
        """Start the API server at `url`."""
        host, port = self.url.rpartition("/")[2].split(":")
        self._for_users.append(self._run("api-server", "--apps", "core", "--host", host, "--port", port))
        self.eventually(lambda: answers(self.url), "an answer of the API server for users")

    def _run(self, part: str, *options: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{part}.log").open("ab") as output:
            command = [str(self.python), "-m", "airflow", part, *options]
            streams: dict[str, Any] = {"stdout": output, "stderr": output}
            return subprocess.Popen(command, env=dict(self.environment), start_new_session=True, **streams)

    def _is_mine(self, process: psutil.Process) -> bool:
        """By its parents: some of Airflow's processes write their titles over their environment."""
        roots = {each.pid for each in (self.process, *self._started)}
        try:
            return not roots.isdisjoint({process.pid, *(parent.pid for parent in process.parents())})
        except psutil.NoSuchProcess:
            return False

    def stop(self) -> None:
        """End all processes."""
        for process in [*self._for_users, *self._started, self.process]:
            _end(process)

    def command(self, *arguments: str) -> str:
        """Run ``airflow`` with arguments in the same home; returns what it printed."""
        done = subprocess.run(
            [self.python, "-m", "airflow", *arguments],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def eventually(self, condition: Callable[[], bool], what: str, explain: Callable[[], str] | None = None) -> None:
        """Wait until a condition holds, as long as Airflow runs."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, f"Airflow has ended:\n{self.output.read_text()[-5000:]}"
            assert time.monotonic() < deadline, f"never happened: {what}. {explain() if explain else ''}"
            time.sleep(0.5)

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310  loopback
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")


def answers(url: str) -> bool:
    """Whether an API server is up."""
    try:
        with urllib.request.urlopen(f"{url}/api/v2/version", timeout=5):  # noqa: S310  loopback
            return True
    except OSError:
        return False


@contextmanager
def live_airflow(
    home: Path, environment: Mapping[str, str], dags: Sequence[Path], version: str = "newest"
) -> Iterator[LiveAirflow]:
    """Run Airflow until the block ends; afterwards none of its processes may be left.

    :param home: its ``AIRFLOW_HOME``, a folder that does not exist yet.
    :param environment: further environment variables.
    :param dags: files to copy into its DAGs folder.
    :param version: the Airflow, as in `airflow_python`; the project is the checkout.
    """
    python = airflow_python(version)
    (home / "dags").mkdir(parents=True)
    for file in dags:
        shutil.copy(file, home / "dags")
    database = _database(home / "airflow.db")
    api, *ports = _free_ports(5)
    internal, url = f"http://127.0.0.1:{api}", f"http://127.0.0.1:{ports[3]}"
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        # Airflow fails a task that resumes before the scheduler has heard of the end of the process that deferred it,
        # as happens on a busy machine (scheduler_job_runner.py, process_executor_events); its next try goes on.
        "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "2",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "2",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{internal}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        # Airflow 3.0 takes a file's DAGs for gone when it is read for a callback alone, as after a dagrun_timeout,
        # until it is next read as a whole (dag_processing/manager.py, deactivate_stale_dags).
        "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "3600",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports[0]),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(ports[1]),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(ports[2]),
        # On a busy machine the API server's first answers take longer than the 5 s that a task waits by default.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "120",
        "HOME": str(home),
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONUNBUFFERED": "1",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_"))}
    variables = {**inherited, **settings, **environment}
    output = home / "output.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [python, "-m", "airflow", "standalone"],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    airflow = LiveAirflow(home, url, output, process, variables, python)
    try:
        airflow.eventually(lambda: answers(internal), "an answer of the API server", output.read_text)
        airflow.serve_users()
        yield airflow
    finally:
        airflow.stop()


def _database(file: Path) -> str:
    """A database that several processes can write into without one of them giving up: SQLite's default lets readers
    keep writers out, and waits for 5 s only, upon which scheduler and triggerer end."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    return f"sqlite:///{file}?timeout=120"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and its whole family; a member may have made a session of its own."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        os.killpg(process.pid, signal.SIGTERM)
    except (psutil.NoSuchProcess, ProcessLookupError):
        family = []
    _, left = psutil.wait_procs(family, timeout=10)
    for one in left:
        one.kill()
    psutil.wait_procs(left, timeout=10)
    process.wait()
