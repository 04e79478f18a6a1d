"""The demo: from a git commit to a prediction and back down, on this machine, in one command."""

from __future__ import annotations

import argparse
import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_sm_git.core.errors import SmGitError
from airflow_sm_git.core.names import read_tags
from airflow_sm_git.demo.scene import DAG_ID, Scene, environment, set_up
from airflow_sm_git.demo.summary import Kept, say, say_failure, say_kept, say_places, say_step, say_success
from airflow_sm_git.local import daemon
from airflow_sm_git.local.state import NotOurDirectory

DEFAULT_HOME = Path("~/.airflow-sm-git/demo")


def main(argv: list[str], *, local_state: Path) -> int:
    """Run the demo.

    :param argv: the options, without the program's name.
    :param local_state: the local SageMaker's folder.
    :return: the exit code, 0 if every step succeeded, 130 if it was interrupted.
    """
    parser = argparse.ArgumentParser(prog="airflow-sm-git demo", description=__doc__)
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME, help="the demo's folder (default: %(default)s)")
    parser.add_argument("--conf", type=_conf, default={}, help="Params of the run as JSON, such as '{\"epochs\": 8}'")
    options = parser.parse_args(argv)
    home = options.home.expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(home / "lock"), _interruptible():
            return _run(home, options.conf, local_state.absolute())
    except (SmGitError, daemon.StartFailed, NotOurDirectory, OSError) as error:
        print(f"The demo could not start: {error}", file=sys.stderr)
        return 1


def _run(home: Path, conf: dict[str, Any], local_state: Path) -> int:
    began, since = time.monotonic(), datetime.now(UTC)
    scene = set_up(home, local_state)
    was_running = daemon.status(local_state) is not None
    info = daemon.start(local_state)
    report, code, kept = None, 130, []
    try:
        say(f"A git repository of {len(scene.commits.commits)} commits, and a local SageMaker on {info.url}.")
        report, code = _play(scene, daemon.env(local_state), conf, began)
    except KeyboardInterrupt:
        say("\nInterrupted.")
    finally:
        kept = _remaining(daemon.env(local_state), since)
        if not was_running and not kept:
            daemon.stop(local_state)
    say()
    if code == 130:
        say_kept(scene, kept)
        say_places(scene, local_state)
    elif report is None or code:
        say_failure(scene, report, kept, local_state)
    else:
        say_success(scene, report, kept, time.monotonic() - began, local_state)
    return min(code, 1) if code != 130 else code


def _play(scene: Scene, aws: dict[str, str], conf: dict[str, Any], began: float) -> tuple[dict[str, Any] | None, int]:
    """Run the DAG and show each step as it ends; the run's record and the exit code."""
    scene.events.write_text("")
    command = [sys.executable, "-m", "airflow_sm_git.demo.airflow_run", DAG_ID, json.dumps(conf)]
    report = None
    started: dict[str, float] = {}
    with scene.log.open("w") as log:
        process = subprocess.Popen(
            command, env=environment(scene, aws), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            for event in _events(scene.events, process):
                step, state = event["step"], event["state"]
                if state == "running":
                    if not started:
                        say(f"Airflow is up after {time.monotonic() - began:.1f} s; the DAG is {DAG_ID!r}.\n")
                    started.setdefault(step, event["time"])
                    continue
                say_step(step, state, event["time"] - started.get(step, event["time"]), event["error"])
                report = event.get("report") or report
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return report, 1 if process.returncode else 0


def _events(path: Path, process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """The lines of a growing file, until the process that writes it has ended."""
    with path.open() as file:
        while True:
            ended = process.poll() is not None
            for line in file:
                yield json.loads(line)
            if ended:
                return
            time.sleep(0.05)


def _remaining(aws: dict[str, str], since: datetime) -> list[Kept]:
    """The endpoints made since a time that are still there. The server is asked, because a run may end unreported."""
    import boto3

    client = boto3.client(
        "sagemaker",
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        region_name=aws["AWS_DEFAULT_REGION"],
        aws_access_key_id=aws["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=aws["AWS_SECRET_ACCESS_KEY"],
    )
    answer = client.list_endpoints(CreationTimeAfter=since, NameContains=DAG_ID, MaxResults=100)
    found = [each for each in answer["Endpoints"] if each["EndpointStatus"] != "Deleting"]
    return [
        Kept(
            each["EndpointName"],
            read_tags(client.list_tags(ResourceArn=each["EndpointArn"])["Tags"]).get("lease-until", "?"),
        )
        for each in found
    ]


def _conf(text: str) -> dict[str, Any]:
    try:
        conf = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(conf, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return conf


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Two demos in one folder would overwrite each other's files."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SmGitError(
                f"another demo runs in {lock.parent}.", "Wait for it, or name another folder with --home."
            ) from None
        yield


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a termination clean up like Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
