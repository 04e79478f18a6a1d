"""Starting a local SageMaker that outlives its caller, finding it again, stopping it, and removing what it left."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil

from airflow_sm_git.local.logs import LogStore, Stream
from airflow_sm_git.local.state import Info, NotOurDirectory, State

STOP_TIMEOUT = 20.0
"""Seconds until a server that was asked to end is killed."""
_TAIL = 20
_PAGE = 1000
_JOBS = "/aws/sagemaker/TrainingJobs"  # SageMaker developer guide, log groups and streams
_ENDPOINTS = "/aws/sagemaker/Endpoints"


class StartFailed(RuntimeError):
    """The server did not come up. The message says why and what to do."""


def start(root: Path, port: int | None = None, *, owner: int | None = None, faults: bool = False) -> Info:
    """A running server's coordinates; the server is started unless it runs.

    Any number of processes may call this at once: one of them starts it, all get the same answer.

    :param root: state directory, made when missing.
    :param port: the port on 127.0.0.1. By default the one it had before, at first any free one.
    :param owner: a process id: a server that this call starts ends itself, soon after that process has ended however
        it did. A server that runs already is not changed by it.
    :param faults: let it make faults on demand (``airflow_sm_git.local.fault_edge``); as ``owner``.
    :raises StartFailed: the port is taken, the server runs on another port, or it ended while starting.
    :raises NotOurDirectory: ``root`` holds something else.
    """
    try:
        state = State(root.resolve()).create()
    except OSError as error:
        raise StartFailed(
            f"{root} cannot be the local SageMaker's directory: {error.strerror}. "
            "Remove what is in its place, or name another one (the setting local_state)."
        ) from error
    with _only_one(state):
        if pid := unanswering(state.root):
            raise StartFailed(
                f"The local SageMaker in {state.root} runs (pid {pid}) but does not answer. "
                "End it (airflow-sm-git local stop), then start it again."
            )
        if running := status(state.root):
            if port not in (None, 0, running.port):
                raise StartFailed(
                    f"A local SageMaker already runs in {state.root} on port {running.port}. "
                    f"Stop it first (airflow-sm-git local stop) to have it on port {port}."
                )
            return running
        old = state.load_info()
        _launch(state, port if port is not None else old.port if old else 0, owner, faults)
        info = status(state.root)
        if info is None:
            raise StartFailed(f"The local SageMaker ended right after its start. Its log:\n{_tail(state)}")
        return info


def stop(root: Path) -> bool:
    """End the server and every process it started; True if one ran."""
    state = State(root.resolve())
    if not state.marker.exists():
        return False
    with _only_one(state):
        info = state.load_info()
        process = _process(state, info) if info else None
        if process is None:
            return False
        _end(process)
        return True


def status(root: Path) -> Info | None:
    """The running server's coordinates, or None where none answers."""
    state = State(root.resolve())
    info = state.load_info()
    process = _process(state, info) if info else None
    return info if info and process and not _frozen(process) and _healthy(info) else None


def unanswering(root: Path) -> int | None:
    """The process id of a server that runs but does not answer, stopped by a signal for instance; or None."""
    state = State(root.resolve())
    info = state.load_info()
    process = _process(state, info) if info else None
    if info is None or process is None or (not _frozen(process) and _healthy(info)):
        return None
    return info.pid if alive(process) else None


def env(root: Path) -> dict[str, str]:
    """The environment variables that lead Airflow, boto3 and the AWS command line to the server.

    :raises LookupError: no server was ever started in ``root``.
    """
    info = State(root.resolve()).load_info()
    if info is None:
        raise LookupError(f"No local SageMaker was started in {root}. Start it: airflow-sm-git local start")
    connection = {
        "conn_type": "aws",
        "login": info.access_key_id,
        "password": info.secret_access_key,
        "extra": {"endpoint_url": info.url, "region_name": info.region},
    }
    return {
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
        "AWS_ACCESS_KEY_ID": info.access_key_id,
        "AWS_SECRET_ACCESS_KEY": info.secret_access_key,
        "AWS_DEFAULT_REGION": info.region,
        "AWS_ENDPOINT_URL": info.url,
    }


def logs(root: Path) -> str:
    """What the server printed."""
    log = State(root.resolve()).log
    return log.read_text(errors="replace") if log.exists() else ""


def resource_logs(root: Path, name: str) -> Iterator[str]:
    """What training jobs and endpoints of a name printed, line by line; the server need not run.

    The streams follow one another in the order of their first lines, each under its name where there are several.

    :raises LookupError: no such job or endpoint has printed anything.
    """
    database = State(root.resolve()).log_database
    if not database.exists():  # opening it would make it
        raise LookupError(f"No training job or endpoint has run in {root}. Start it: airflow-sm-git local start")
    with closing(LogStore(database)) as store:
        wanted = [(_JOBS, f"{name}/"), (f"{_ENDPOINTS}/{name}", "")]
        groups = {group for group, _ in store.groups()}
        streams = [stream for group, prefix in wanted if group in groups for stream in store.streams(group, prefix)]
        spoken = sorted((stream for stream in streams if stream.first is not None), key=lambda each: each.first or 0)
        if not spoken:
            raise LookupError(_nothing_of(name, root, store))
        for stream in spoken:
            if len(spoken) > 1:
                yield f"==> {stream.name} <=="
            yield from _lines(store, stream)


def _lines(store: LogStore, stream: Stream) -> Iterator[str]:
    after = None
    while page := store.read([stream.id], limit=_PAGE, after=after):
        for event in page:
            yield event.message.removesuffix("\n")
        after = page[-1].at, page[-1].id


def _nothing_of(name: str, root: Path, store: LogStore) -> str:
    """Why there are no lines of a name, and which names have some, the latest first."""
    latest: dict[str, int] = {}
    for group, _ in store.groups("/aws/sagemaker/"):
        for stream in store.streams(group):
            owner = stream.name.partition("/")[0] if group == _JOBS else group.rpartition("/")[2]
            latest[owner] = max(latest.get(owner, 0), stream.last or 0)
    known = sorted(latest, key=lambda each: latest[each], reverse=True)[:_TAIL]
    remedy = "Those that have: " + ", ".join(known) if known else "Nothing has run yet"
    return f"No training job or endpoint {name!r} has printed anything in {root}. {remedy}."


def reset(root: Path) -> None:
    """Stop the server and delete all of its state.

    :raises NotOurDirectory: ``root`` exists without our marker; nothing is deleted then.
    """
    state = State(root.resolve())
    if not state.root.exists():
        return
    if not state.marker.exists():
        raise NotOurDirectory(f"{state.root} is not a local SageMaker's directory; nothing was deleted.")
    stop(state.root)
    shutil.rmtree(state.root)


@contextmanager
def _only_one(state: State) -> Iterator[None]:
    with (state.root / "daemon.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _launch(state: State, port: int, owner: int | None, faults: bool) -> None:
    """Start the server and wait until it answers, or until the pipe that it holds says that it has ended."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "airflow_sm_git.local", "serve", "--state", str(state.root)]
    command += ["--port", str(port), "--detach", "--ready", str(writer)]
    command += ["--owner", str(owner)] if owner is not None else []
    command += ["--faults"] if faults else []
    descriptor = os.open(state.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(reader, "rb") as ready, os.fdopen(descriptor, "ab") as log:
        before = log.tell()
        try:
            # glibc otherwise gives each thread an arena of its own, which an idle server never returns.
            environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writer],
                env=environment,
                check=False,
            )
        finally:
            os.close(writer)
        if ready.readline() != b"ready\n":
            if path := _damaged(state):
                raise StartFailed(
                    f"{path} is damaged, so the local SageMaker cannot start. Delete all of its state "
                    "(airflow-sm-git local reset), then start it again."
                )
            said = state.log.read_bytes()[before:].decode(errors="replace").strip()
            raise StartFailed("The local SageMaker did not start. " + "\n".join(said.splitlines()[-_TAIL:]))


def _damaged(state: State) -> Path | None:
    """The first of the server's databases that SQLite finds broken."""
    for path in (state.database, state.log_database, state.s3 / "index.sqlite"):
        if path.exists():
            try:
                with closing(sqlite3.connect(path)) as database:
                    (word,) = database.execute("PRAGMA quick_check(1)").fetchone()
            except sqlite3.OperationalError:
                continue  # locked, or no space: the server's own words say more
            except sqlite3.DatabaseError:
                return path
            if word != "ok":
                return path
    return None


def _process(state: State, info: Info) -> psutil.Process | None:
    """The server's process, if it still is that one: a pid alone may have been given to another program."""
    with suppress(BlockingIOError), state.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    try:
        process = psutil.Process(info.pid)
        same = abs(process.create_time() - info.started) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if same else None


def _frozen(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


def _healthy(info: Info) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", info.port, timeout=10)
    try:
        connection.request("GET", "/health")
        answer = json.loads(connection.getresponse().read())
        return isinstance(answer, dict) and bool(answer.get("pid") == info.pid)
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(process: psutil.Process) -> None:
    try:
        family = [process, *process.children(recursive=True)]
        process.terminate()
        process.resume()  # one that is stopped does not hear the signal before
    except psutil.NoSuchProcess:
        return
    _await_end([process], STOP_TIMEOUT)
    for one in (left := [one for one in family if alive(one)]):
        one.kill()
    _await_end(left, STOP_TIMEOUT)


def alive(process: psutil.Process) -> bool:
    """Whether it runs. A zombie does not; whose child it is decides when it is reaped, and that may take seconds."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _await_end(processes: list[psutil.Process], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while any(alive(one) for one in processes) and time.monotonic() < deadline:
        time.sleep(0.01)


def _tail(state: State) -> str:
    return "\n".join(logs(state.root).splitlines()[-_TAIL:])
