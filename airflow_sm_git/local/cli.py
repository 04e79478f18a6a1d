"""The command line of the local SageMaker: ``start``, ``stop``, ``status``, ``env``, ``logs``, ``reset``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from airflow_sm_git.local import daemon
from airflow_sm_git.local.state import NotOurDirectory

Options = argparse.Namespace


def main(argv: list[str], *, root: Path) -> int:
    """Run one command.

    :param argv: the command and its options, without the program's name.
    :param root: the state directory.
    :returns: the exit code: 0; 1 when something failed (said on the standard error); 3 for ``status`` when none runs.
    """
    options = _parser().parse_args(argv)
    command: Callable[[Options, Path], int] = options.command
    try:
        code = command(options, root)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # ``| head`` has read enough; Python library reference, signal, note on SIGPIPE
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (daemon.StartFailed, NotOurDirectory, LookupError) as error:
        print(error, file=sys.stderr)
        return 1
    except (NotADirectoryError, PermissionError) as error:
        print(
            f"{error.filename or root}: {error.strerror}. Name another directory (the setting local_state).",
            file=sys.stderr,
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="airflow-sm-git local", description="A SageMaker on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[Options, Path], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    begin = add("start", _start, "start it, unless it runs")
    begin.add_argument("--port", type=int, help="port on 127.0.0.1")
    begin.add_argument("--quiet", action="store_true", help="print nothing unless it fails")
    add("stop", _stop, "stop it; what it stored stays")
    add("status", _status, "say whether it runs").add_argument("--json", action="store_true", help="as JSON")
    add("env", _env, "print the variables that lead to it").add_argument("--json", action="store_true", help="as JSON")
    name = "a training job or an endpoint; without it, the server's own log"
    add("logs", _logs, "print the log of a job, of an endpoint, or of the server").add_argument(
        "name", nargs="?", metavar="NAME", help=name
    )
    add("reset", _reset, "stop it and delete what it stored")
    return parser


def _start(options: Options, root: Path) -> int:
    info = daemon.start(root, options.port)
    if options.quiet:
        return 0
    print(f"Local SageMaker on {info.url} (pid {info.pid}), state in {root}.")
    print('Use it from this shell: eval "$(airflow-sm-git local env)"')
    return 0


def _stop(_: Options, root: Path) -> int:
    print("Stopped." if daemon.stop(root) else "It was not running.")
    return 0


def _status(options: Options, root: Path) -> int:
    info = daemon.status(root)
    if info is None and (pid := daemon.unanswering(root)):
        said = f"It runs (pid {pid}) but does not answer. End it: airflow-sm-git local stop"
        print(json.dumps({"running": True, "answers": False, "pid": pid}) if options.json else said)
        return 1
    if options.json:
        public = {key: value for key, value in asdict(info).items() if key != "secret_access_key"} if info else {}
        print(json.dumps({"running": info is not None, **public}))
    else:
        print(f"Running on {info.url} (pid {info.pid}), state in {root}." if info else "Not running.")
    return 0 if info else 3


def _env(options: Options, root: Path) -> int:
    variables = daemon.env(root)
    if options.json:
        print(json.dumps(variables))
    else:
        print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))
    if daemon.status(root) is None:
        print("The local SageMaker is not running; start it: airflow-sm-git local start", file=sys.stderr)
    return 0


def _logs(options: Options, root: Path) -> int:
    if options.name is not None:
        for line in daemon.resource_logs(root, options.name):
            print(line)
    elif text := daemon.logs(root):
        sys.stdout.write(text)
    else:
        print("The server has said nothing yet. A job's or endpoint's log: airflow-sm-git local logs NAME")
    return 0


def _reset(_: Options, root: Path) -> int:
    daemon.reset(root)
    print(f"Deleted {root}.")
    return 0
