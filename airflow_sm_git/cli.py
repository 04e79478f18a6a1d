"""The command line ``airflow-sm-git``: thin shells over functions."""

from __future__ import annotations

import argparse
import io
import json
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
    parser.add_argument(
        "command", choices=("demo", "local", "sweep", "trace"), help="what to do; each has its own --help"
    )
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
    return _trace(rest) if command == "trace" else _sweep(rest)


def _sweep(rest: list[str]) -> int:
    options = _sweep_options(rest)
    if options.endpoint:
        from airflow_sm_git.clients.sweep import remove_endpoint

        for name in options.endpoint:
            for line in remove_endpoint(name, options.namespace, delete=options.delete):
                print(line)
        return 0
    from airflow_sm_git.clients.sweep import remove_expired
    from airflow_sm_git.core.lease import duration
    from airflow_sm_git.core.sweep_record import render

    record = remove_expired(
        options.namespace,
        delete=options.delete,
        older_than=duration("--older-than", options.older_than) if options.older_than is not None else None,
        s3_uri_prefix=options.s3_uri_prefix or None,
    )
    print(json.dumps(record, indent=2) if options.json else "\n".join(render(record)))
    for failure in record["failed"]:
        print(failure, file=sys.stderr)
    return 1 if record["failed"] else 0


def _sweep_options(rest: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="airflow-sm-git sweep",
        description="List what runs have left in the region: endpoints, configurations, models and running training"
        " jobs that carry the namespace; delete (stop, if it is a job) what of it has a lease that has ended. Or list,"
        " or delete, single endpoints with what belongs to them, whatever their lease. AWS credentials and region come"
        ' from the environment, as for the AWS command line; for the local SageMaker: eval "$(airflow-sm-git local'
        ' env)". Ends with 1 if something could not be looked at or deleted; the rest is done all the same.',
    )
    parser.add_argument("--delete", action="store_true", help="delete; without it the command only lists")
    parser.add_argument("--namespace", default=settings.get("namespace"), help="only what carries it (%(default)s)")
    parser.add_argument("--endpoint", action="append", metavar="NAME", help="this endpoint alone; repeatable")
    parser.add_argument(
        "--older-than",
        metavar="AGE",
        help="such as 3d, 12h, 90m, or seconds: what has a lease and is older counts as expired too;"
        " what has no lease is standing and always stays",
    )
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
    parser.add_argument(
        "--s3-uri-prefix",
        default=settings.get("s3_uri_prefix"),
        metavar="URI",
        help="where to write down when this was, for the warning of runs; SageMaker's default bucket if none is set",
    )
    options = parser.parse_args(rest)
    if options.endpoint and (options.older_than is not None or options.json):
        parser.error("--endpoint goes with neither --older-than nor --json")
    return options


def _trace(rest: list[str]) -> int:
    from airflow_sm_git.clients.trace import trace
    from airflow_sm_git.core.trace import as_json, as_text

    parser = argparse.ArgumentParser(
        prog="airflow-sm-git trace",
        description="Show where something came from: from an endpoint by what is live to the models, the training"
        " jobs, the packages and the commits. Airflow is not asked: what AWS holds is enough. AWS credentials and"
        " region come from the environment, as for the AWS command line; for the local SageMaker:"
        ' eval "$(airflow-sm-git local env)".',
        epilog="Ends with 1 if there is no such thing, or if --verify found a difference or could not follow it all.",
    )
    parser.add_argument(
        "target",
        metavar="NAME|ARN|s3://…",
        help="an endpoint, endpoint configuration, model or training job; a package, its manifest, a model's archive",
    )
    parser.add_argument("--json", action="store_true", help="JSON (airflow_sm_git.core.trace tells its form)")
    parser.add_argument("--verify", action="store_true", help="download what is in S3 and hold it against the tags")
    options = parser.parse_args(rest)
    found = trace(options.target, verify=options.verify)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a tree, and names of any script, where only ASCII can go
    print(json.dumps(as_json(found), indent=1) if options.json else as_text(found))
    return 1 if found.verified is False else 0
