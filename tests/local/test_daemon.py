"""Starting, finding, stopping and removing a local SageMaker, as functions and as a command."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from airflow_sm_git.local import cli, daemon
from airflow_sm_git.local.logs import LogStore
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from airflow_sm_git.local.state import NotOurDirectory, State
from tests.local.sagemaker_requests import client, config, ended, settled, training_job

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


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(root: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; its exit code, and what it printed and complained."""

    def call(*argv: str) -> tuple[int, str, str]:
        code = cli.main(list(argv), root=root)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_the_commands_tell_what_they_did(root: Path, run: Run) -> None:
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
    assert run("stop")[:2] == (0, "Stopped.\n")
    assert run("stop")[:2] == (0, "It was not running.\n")
    assert run("reset")[0] == 0
    assert not root.exists()


def test_a_quiet_start_says_only_what_fails(root: Path, run: Run) -> None:
    assert run("start", "--quiet") == (0, "", "")
    info = daemon.status(root)
    assert info
    code, out, complaint = run("start", "--quiet", "--port", str(info.port + 1))
    assert (code, out) == (1, "") and "already runs" in complaint


def test_env_warns_where_the_server_does_not_run(root: Path, run: Run) -> None:
    daemon.start(root)
    running = run("env")
    assert running[2] == ""
    daemon.stop(root)
    code, out, complaint = run("env")
    assert (code, out) == running[:2], "the variables stay those of the next start"
    assert "not running; start it: airflow-sm-git local start" in complaint
    code, out, complaint = run("env", "--json")
    assert json.loads(out)["AWS_ENDPOINT_URL"] in running[1] and "not running" in complaint


def test_logs_prints_what_the_server_said_or_that_it_said_nothing(root: Path, run: Run) -> None:
    code, out, _ = run("logs")
    assert code == 0 and "nothing yet" in out and "airflow-sm-git local logs NAME" in out
    assert not root.exists(), "asking makes no folder"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(daemon.StartFailed):
            daemon.start(root, other.getsockname()[1])
    code, out, _ = run("logs")
    assert code == 0 and "is taken" in out and "nothing yet" not in out


def test_logs_prints_the_lines_of_a_job_and_of_an_endpoint_though_the_server_is_stopped(root: Path, run: Run) -> None:
    server = LocalSageMaker(root, daemon.start(root))
    sagemaker = client(server, "sagemaker")
    for name in ("job", "job-2"):
        sagemaker.create_training_job(**training_job(server, f"print('printed by {name}')", name=name))
        ended(server, name)
    sagemaker.create_endpoint(EndpointName="ears", EndpointConfigName=config(server, "w", handler=_TALKING))
    settled(server, "ears")
    answers = {name: run("logs", name) for name in ("job", "job-2", "ears")}
    assert [code for code, _, _ in answers.values()] == [0, 0, 0]
    assert "printed by job\n" in answers["job"][1] and "printed by job-2" not in answers["job"][1]
    assert "printed by job-2\n" in answers["job-2"][1]
    assert "the model is loaded\n" in answers["ears"][1]
    daemon.stop(root)
    assert answers["job"] == run("logs", "job")
    assert run("logs", "ears")[1].startswith(answers["ears"][1])


_TALKING = """
def model_fn(model_dir):
    print("the model is loaded", flush=True)
    return None

def predict_fn(data, model):
    return data
"""


def test_logs_puts_streams_in_the_order_of_their_first_lines(root: Path, run: Run) -> None:
    with closing(LogStore(State(root).create().log_database)) as store:
        store.append("/aws/sagemaker/Endpoints/e", "v/i-a", [(3000, "second")])
        store.append("/aws/sagemaker/Endpoints/e", "v/i-b", [(1000, "first"), (4000, "last of the first")])
        store.create_stream("/aws/sagemaker/Endpoints/e", "v/i-c")
        store.append("/aws/sagemaker/TrainingJobs", "many/algo-1-1", [(7, str(number)) for number in range(2500)])
    expected = ["==> v/i-b <==", "first", "last of the first", "==> v/i-a <==", "second"]
    assert run("logs", "e")[1].splitlines() == expected
    assert run("logs", "many")[1].splitlines() == [str(number) for number in range(2500)]


def test_logs_of_a_name_that_is_not_there_names_those_that_are(root: Path, run: Run) -> None:
    code, out, complaint = run("logs", "nobody")
    assert (code, out) == (1, "") and "airflow-sm-git local start" in complaint
    assert not root.exists(), "asking makes no folder"
    with closing(LogStore(State(root).create().log_database)) as store:
        assert "Nothing has run yet" in run("logs", "nobody")[2]
        store.append("/aws/sagemaker/Endpoints/e", "v/i-a", [(1000, "x")])
        store.append("/aws/sagemaker/TrainingJobs", "job/algo-1-1", [(2000, "x")])
    for absent in ("nobody", "jo", "", "job/"):
        code, out, complaint = run("logs", absent)
        assert (code, out) == (1, ""), absent
        assert repr(absent) in complaint and "job, e." in complaint


def test_logs_ends_quietly_when_its_reader_has_read_enough(root: Path) -> None:
    with closing(LogStore(State(root).create().log_database)) as store:
        store.append("/aws/sagemaker/TrainingJobs", "job/algo-1-1", [(1, "x" * 100)] * 2000)
    script = f"{_HEADER}; sys.exit(cli.main(['logs', 'job'], root=Path(sys.argv[1])))"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, "")


@pytest.mark.parametrize("name", ["sagemaker.sqlite", "logs.sqlite", "s3/index.sqlite"])
def test_a_damaged_database_is_named_with_the_remedy(root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    State(root).marker.touch()
    (root / name).write_bytes(bytes(range(256)) * 64)
    assert cli.main(["start"], root=root) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"{root / name} is damaged")
    assert "airflow-sm-git local reset" in said
    assert cli.main(["reset"], root=root) == 0
    assert cli.main(["start"], root=root) == 0


@pytest.mark.parametrize("command", ["start", "status", "stop", "env", "logs", "reset"])
def test_a_root_that_cannot_be_a_directory_is_named_in_one_sentence(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        code = cli.main([command], root=root)
        said = capsys.readouterr()
        assert code in (1, 3) or command in ("stop", "logs", "reset"), said
        assert "Traceback" not in said.err
        if command == "start":
            assert code == 1
            assert said.err.startswith(f"{root} cannot be the local SageMaker's directory: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_frozen_server_is_said_to_run_and_can_be_stopped(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = daemon.start(root)
    os.kill(info.pid, signal.SIGSTOP)
    assert cli.main(["status"], root=root) == 1
    assert f"It runs (pid {info.pid}) but does not answer" in capsys.readouterr().out
    assert cli.main(["status", "--json"], root=root) == 1
    assert json.loads(capsys.readouterr().out) == {"running": True, "answers": False, "pid": info.pid}
    assert cli.main(["start"], root=root) == 1
    assert f"runs (pid {info.pid}) but does not answer" in capsys.readouterr().err
    assert daemon.stop(root)
    assert daemon.status(root) is None
    assert not psutil.pid_exists(info.pid) or psutil.Process(info.pid).status() == psutil.STATUS_ZOMBIE
