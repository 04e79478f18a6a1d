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
from dataclasses import dataclass, field
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
    told = Told()
    code, kept = 130, []
    try:
        say(f"A git repository of {len(scene.commits.commits)} commits, and a local SageMaker on {info.url}.")
        code = _play(scene, daemon.env(local_state), conf, began, told)
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
    elif code or not told.report:
        say_failure(scene, told.refusal, bool(told.report), kept, local_state)
        return 1
    else:
        say_success(scene, told.report, kept, time.monotonic() - began, local_state)
    return code


@dataclass
class Told:
    """What Airflow has told so far.

    :param report: the run's record.
    :param refusal: why Airflow did not run the DAG at all.
    :param started: when each step began, in seconds since 1970.
    """

    report: dict[str, Any] | None = None
    refusal: str | None = None
    started: dict[str, float] = field(default_factory=dict)


def _play(scene: Scene, aws: dict[str, str], conf: dict[str, Any], began: float, told: Told) -> int:
    """Run the DAG and show each step as it ends; the exit code, 0 or 1."""
    scene.events.write_text("")
    command = [sys.executable, "-m", "airflow_sm_git.demo.airflow_run", DAG_ID, json.dumps(conf)]
    with scene.log.open("w") as log:
        process = subprocess.Popen(
            command, env=environment(scene, aws), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            for event in _events(scene.events, process):
                _follow(event, told, began)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return 1 if process.returncode else 0


def _follow(event: dict[str, Any], told: Told, began: float) -> None:
    step, state, error, when = event["step"], event["state"], event["error"], event["time"]
    if step == "airflow":
        told.refusal = error
    elif state == "running":
        if not told.started:
            say(f"Airflow is up after {time.monotonic() - began:.1f} s; the DAG is {DAG_ID!r}.\n")
        told.started.setdefault(step, when)
    else:
        say_step(step, state, when - told.started.get(step, when), error)
        told.report = event.get("report") or told.report


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
