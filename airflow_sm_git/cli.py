"""The command line ``airflow-sm-git``: thin shells over functions."""

from __future__ import annotations

import argparse
import sys

from airflow_sm_git import settings
from airflow_sm_git.core.errors import SmGitError


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    :param argv: the arguments without the program's name; None for the process's own.
    :return: the exit code.
    """
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="airflow-sm-git", description="From a git commit to a SageMaker endpoint.")
    parser.add_argument("command", choices=("demo", "local", "sweep"), help="what to do; each has its own --help")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        return _run(options.command, options.rest)
    except SmGitError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(command: str, rest: list[str]) -> int:
    if command == "demo":
        from airflow_sm_git.demo.run import main as demo

        return demo(rest, local_state=settings.local_state())
    if command == "local":
        from airflow_sm_git.local.cli import main as local

        return local(rest, root=settings.local_state())
    return _sweep(rest)


def _sweep(rest: list[str]) -> int:
    from airflow_sm_git.clients.sweep import remove_endpoint

    parser = argparse.ArgumentParser(
        prog="airflow-sm-git sweep",
        description="List, or delete, endpoints that runs have left, with their configurations and models, and what"
        " is left of those that are gone. AWS credentials and region come from the environment, as for the AWS"
        ' command line; for the local SageMaker: eval "$(airflow-sm-git local env)".',
    )
    parser.add_argument("--endpoint", action="append", required=True, metavar="NAME", help="an endpoint; repeatable")
    parser.add_argument("--delete", action="store_true", help="delete; without it the command only lists")
    parser.add_argument("--namespace", default=settings.get("namespace"), help="only what carries it (%(default)s)")
    options = parser.parse_args(rest)
    for name in options.endpoint:
        for line in remove_endpoint(name, options.namespace, delete=options.delete):
            print(line)
    return 0
