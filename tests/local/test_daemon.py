"""Starting, finding, stopping and removing a local SageMaker, as functions and as a command."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from airflow_sm_git.local import cli, daemon
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from airflow_sm_git.local.state import NotOurDirectory, State

_HEADER = "import sys; from pathlib import Path; from airflow_sm_git.local import cli, daemon"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    daemon.stop(tmp_path / "state")


def test_a_second_start_finds_the_first_server(root: Path) -> None:
    first = daemon.start(root)
    assert daemon.start(root) == first == daemon.status(root)
    with pytest.raises(daemon.StartFailed, match="already runs"):
        daemon.start(root, first.port + 1)


def test_concurrent_callers_of_several_processes_get_one_server(root: Path) -> None:
    script = f"{_HEADER}; print(daemon.start(Path(sys.argv[1])).pid)"

    def call(_: int) -> str:
        done = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True, check=True)
        return done.stdout

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(call, range(4)))) == 1


def test_port_and_keys_stay_over_a_restart_and_the_process_does_not(root: Path) -> None:
    first = daemon.start(root)
    assert daemon.stop(root) and not daemon.stop(root)
    assert daemon.status(root) is None
    assert not psutil.pid_exists(first.pid) or psutil.Process(first.pid).status() == psutil.STATUS_ZOMBIE
    second = daemon.start(root)
    assert (second.port, second.access_key_id, second.secret_access_key) == (
        first.port,
        first.access_key_id,
        first.secret_access_key,
    )
    assert second.pid != first.pid


def test_a_taken_port_is_named_with_the_remedy(root: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(daemon.StartFailed, match=rf"Port {port} on 127.0.0.1 is taken.*--port"):
            daemon.start(root, port)
    assert daemon.status(root) is None
    assert daemon.start(root, port).port == port


def test_a_killed_server_is_noticed_and_started_anew_with_its_objects(root: Path) -> None:
    server = LocalSageMaker(root, daemon.start(root))
    bucket = "sagemaker-us-east-1-000000000000"
    server.client("s3").put_object(Bucket=bucket, Key="k", Body=b"kept")
    os.kill(server.info.pid, signal.SIGKILL)
    again = LocalSageMaker(root, daemon.start(root))
    assert again.info.pid != server.info.pid
    assert again.client("s3").get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"


def test_a_stranger_with_the_servers_old_pid_is_not_taken_for_it_nor_killed(root: Path) -> None:
    daemon.start(root)
    daemon.stop(root)
    state = State(root)
    info = state.load_info()
    assert info
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        state.write_info(type(info)(**{**info.__dict__, "pid": stranger.pid}))
        assert daemon.status(root) is None
        assert not daemon.stop(root)
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_the_state_is_private(root: Path) -> None:
    daemon.start(root)
    state = State(root)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (root, state.info, state.requests, state.log)]
    assert modes == [0o700, 0o600, 0o600, 0o600]


def test_a_directory_of_someone_else_is_neither_used_nor_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for act in (daemon.start, daemon.reset):
        with pytest.raises(NotOurDirectory):
            act(tmp_path)
    assert not daemon.stop(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_reset_stops_the_server_and_leaves_nothing(root: Path) -> None:
    info = daemon.start(root)
    daemon.reset(root)
    assert not root.exists()
    assert not psutil.pid_exists(info.pid) or psutil.Process(info.pid).status() == psutil.STATUS_ZOMBIE
    daemon.reset(root)


def test_the_server_outlives_the_process_that_started_it(root: Path) -> None:
    script = f"{_HEADER}; cli.main(['start'], root=Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True, check=True)
    info = daemon.status(root)
    assert info and info.url in done.stdout
    assert os.getsid(info.pid) == info.pid


def test_env_leads_every_client_to_the_server(root: Path) -> None:
    with pytest.raises(LookupError, match="airflow-sm-git local start"):
        daemon.env(root)
    info = daemon.start(root)
    variables = daemon.env(root)
    connection = json.loads(variables.pop("AIRFLOW_CONN_AWS_DEFAULT"))
    assert connection["conn_type"] == "aws"
    assert (connection["login"], connection["password"]) == (info.access_key_id, info.secret_access_key)
    assert connection["extra"] == {"endpoint_url": info.url, "region_name": "us-east-1"}
    script = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "000000000000"


def test_an_idle_server_stays_under_a_hundred_megabytes(root: Path) -> None:
    info = daemon.start(root)
    assert psutil.Process(info.pid).memory_info().rss < 100_000_000


# The command line


def test_the_commands_tell_what_they_did(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*argv: str) -> tuple[int, str, str]:
        code = cli.main(list(argv), root=root)
        said = capsys.readouterr()
        return code, said.out, said.err

    assert run("status")[:2] == (3, "Not running.\n")
    assert run("env")[0] == 1
    code, out, _ = run("start")
    info = daemon.status(root)
    assert info and code == 0 and info.url in out
    status = json.loads(run("status", "--json")[1])
    assert status["running"] and status["port"] == info.port and "secret_access_key" not in status
    exports = run("env")[1]
    shell = subprocess.run(
        ["sh", "-c", f'{exports}\nprintf %s "$AIRFLOW_CONN_AWS_DEFAULT"'], capture_output=True, text=True, check=True
    )
    assert json.loads(shell.stdout) == json.loads(json.loads(run("env", "--json")[1])["AIRFLOW_CONN_AWS_DEFAULT"])
    assert run("logs")[0] == 0
    assert run("stop")[:2] == (0, "Stopped.\n")
    assert run("stop")[:2] == (0, "It was not running.\n")
    assert run("reset")[0] == 0
    assert not root.exists()
