"""The demo: from a git commit to a prediction and back down, on this machine, in one command."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_sm_git.core.errors import SmGitError
from airflow_sm_git.demo.scene import DAG_ID, Scene, environment, set_up
from airflow_sm_git.local import daemon

DEFAULT_HOME = Path("~/.airflow-sm-git/demo")
_STEPS = {
    "checkout": "resolve the branch to one commit",
    "package": "build sourcedir.tar.gz, put it by digest",
    "train": "train in a SageMaker job",
    "deploy": "serve the model at an endpoint",
    "predict": "ask the endpoint",
    "teardown": "delete endpoint, config and model",
    "report": "put the run's record together",
}


def main(argv: list[str], *, local_state: Path) -> int:
    """Run the demo.

    :param argv: the options, without the program's name.
    :param local_state: the local SageMaker's folder.
    :return: the exit code, 0 if every step succeeded.
    """
    parser = argparse.ArgumentParser(prog="airflow-sm-git demo", description=__doc__)
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME, help="the demo's folder (default: %(default)s)")
    parser.add_argument(
        "--conf", type=json.loads, default={}, help="Params of the run as JSON, such as '{\"epochs\": 8}'"
    )
    options = parser.parse_args(argv)
    began = time.monotonic()
    was_running = daemon.status(local_state) is not None
    try:
        scene = set_up(options.home.expanduser().absolute(), local_state)
        info = daemon.start(local_state)
    except (SmGitError, daemon.StartFailed, OSError) as error:
        print(f"The demo could not start: {error}", file=sys.stderr)
        return 1
    _say(f"A git repository of {len(scene.commits.commits)} commits, and a local SageMaker on {info.url}.")
    report: dict[str, Any] | None = None
    try:
        report, code = _play(scene, daemon.env(local_state), options.conf, began)
    finally:
        if not was_running and not (report and _kept(report)):
            daemon.stop(local_state)
    _say("")
    if report is None or code:
        _say_failure(scene, report, local_state)
        return 1
    _say_success(scene, report, time.monotonic() - began, local_state)
    return 0


def _play(scene: Scene, aws: dict[str, str], conf: dict[str, Any], began: float) -> tuple[dict[str, Any] | None, int]:
    """Run the DAG and show each step as it ends; the run's record and Airflow's exit code."""
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
                        _say(f"Airflow is up after {time.monotonic() - began:.1f} s; the DAG is {DAG_ID!r}.\n")
                    started.setdefault(step, event["time"])
                    continue
                _show(step, state, event["time"] - started.get(step, event["time"]), event["error"])
                report = event.get("report") or report
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return report, process.returncode


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


def _show(step: str, state: str, seconds: float, error: str | None) -> None:
    mark = "ok" if state == "success" else state.upper()
    _say(f"  {step:<9} {_STEPS.get(step, ''):<42} {seconds:6.1f} s  {mark}")
    if error and step != "report":
        _say(textwrap.indent(error, "            "))


def _kept(report: dict[str, Any]) -> list[dict[str, Any]]:
    teardowns = [records.get("teardown") for records in report["indexes"].values()]
    return [each for each in teardowns if each and each["kept"]]


def _say_success(scene: Scene, report: dict[str, Any], seconds: float, local_state: Path) -> None:
    run = report["indexes"]["-1"]
    commit, job, metrics = run["checkout"], run["training_job"], run["training_job"]["metrics"]
    _say(f"commit      {commit['commit']}  {commit['subject']!r} by {commit['author']}")
    _say(f"digest      {run['package']['digest']} ({run['package']['file_count']} files, the same on every machine)")
    _say(f"job         {job['job_name']} ({job['status']}, {job['billable_seconds']} billable seconds)")
    _say(
        f"perplexity  {metrics['validation:perplexity']:.0f} on held-out text; initial weights "
        f"{metrics['initial:perplexity']:.0f}, add-one unigram {metrics['unigram:perplexity']:.0f}"
    )
    _say(f"endpoint    {run['endpoint']['endpoint_name']} answered:\n")
    _say(textwrap.fill(run["prediction"]["body"], 100, initial_indent="    ", subsequent_indent="    "))
    torn_down = run["teardown"]
    if torn_down["kept"]:
        _say(f"\nkept        {', '.join(torn_down['kept'])} until {torn_down['lease_until']}")
        _say(f"            remove it: {torn_down['remove_command']}")
    else:
        _say(f"\ntorn down   {', '.join(torn_down['deleted'])}")
    _say(f"time        {seconds:.0f} s in all\n")
    _say(f"On your disk: {scene.home} and {local_state} (delete them when you like). Try next:\n")
    _say(f"    . {scene.script}        # starts the local SageMaker and points Airflow to it")
    _say(f"    git -C {scene.commits.path} log --oneline")
    _say("    airflow standalone      # http://localhost:8080, trigger 'quickstart' with another ref, say main~1")
    _say("    airflow-sm-git local stop")


def _say_failure(scene: Scene, report: dict[str, Any] | None, local_state: Path) -> None:
    _say("The demo failed.")
    if report is None:
        _say("Airflow ended before the run did. Its last lines:\n")
        _say(textwrap.indent("\n".join(scene.log.read_text(errors="replace").splitlines()[-15:]), "    "))
    for kept in _kept(report) if report else []:
        _say(f"Kept until {kept['lease_until']}: {', '.join(kept['kept'])}")
        _say(f"Remove it with:\n    . {scene.script}\n    {kept['remove_command']}\n    airflow-sm-git local stop")
    _say(f"The whole log: {scene.log}. On your disk: {scene.home} and {local_state} (delete them when you like).")


def _say(text: str) -> None:
    print(text, flush=True)
