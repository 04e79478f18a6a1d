"""``python -m airflow_sm_git.local serve``: one server, in the foreground unless told otherwise."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    """Run the server until SIGTERM or SIGINT.

    With ``--detach`` the caller's child returns at once and a grandchild serves, so that no caller has to reap it.
    """
    parser = argparse.ArgumentParser(prog="python -m airflow_sm_git.local")
    serve = parser.add_subparsers(required=True).add_parser("serve")
    serve.add_argument("--state", type=Path, required=True, help="the state directory")
    serve.add_argument("--port", type=int, default=0, help="the port on 127.0.0.1; 0: any free one")
    serve.add_argument("--detach", action="store_true", help="serve in a process of its own session")
    serve.add_argument("--ready", type=int, default=-1, help="a file descriptor to write to when requests are answered")
    serve.add_argument("--owner", type=int, help="a process id: the server ends itself when that process is gone")
    serve.add_argument("--faults", action="store_true", help="make faults on demand")
    options = parser.parse_args(argv)
    if options.detach:
        if os.fork():
            # The grandchild needs nothing of this process's clean-up, and nobody waits for it.
            os._exit(0)
        os.setsid()
    from airflow_sm_git.local.serve import run

    return run(options.state, options.port, options.ready, options.owner, options.faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
