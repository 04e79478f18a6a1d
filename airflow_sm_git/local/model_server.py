"""The program of a model's process: loads the user's handlers and answers invocations.

Run as ``python -P model_server.py LISTENING_FD MODEL_DIR``. As multi-model-server does, it keeps some worker processes
(``SAGEMAKER_MODEL_SERVER_WORKERS``), each of which loads the model for itself and serves one request at a time, so that
handlers need not be thread-safe; one that dies or exceeds ``SAGEMAKER_MODEL_SERVER_TIMEOUT`` is replaced.

A connection carries one request and one reply, each a line of JSON and a body of ``length`` bytes. The request's line
holds the secret that the server gave this process, so that no other user of the machine can ask.
"""

from __future__ import annotations

import hmac
import importlib.util
import json
import os
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_sm_git.local.handlers import Service

SECRET = "SM_GIT_MODEL_SECRET"  # noqa: S105  the variable's name
CANNOT_LOAD = 3
_PAUSE = 1.0
"""Seconds before a worker that could not load, though another could, is tried again."""


def sibling(name: str) -> Any:
    """A module of this directory, which is not on ``sys.path`` here: the user's modules must not clash with ours."""
    spec = importlib.util.spec_from_file_location(f"_sm_git_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


handlers = sibling("handlers")


def supervise(listener: socket.socket, model_dir: str, secret: str, count: int, timeout: int) -> int:
    """Keep ``count`` workers; returns an exit code if the first cannot load the model, else not."""
    if not os.read(start_worker(listener, model_dir, secret, timeout), 1):
        return 1
    for _ in range(count - 1):
        os.close(start_worker(listener, model_dir, secret, timeout))
    while True:
        code = os.waitstatus_to_exitcode(os.wait()[1])
        if code == -signal.SIGALRM:
            print(f"A request took more than {timeout} s (SAGEMAKER_MODEL_SERVER_TIMEOUT): its worker is replaced")
        elif code != CANNOT_LOAD:
            print(f"A worker ended ({'signal ' if code < 0 else 'exit code '}{abs(code)}): it is replaced")
        else:
            time.sleep(_PAUSE)
        os.close(start_worker(listener, model_dir, secret, timeout))


def start_worker(listener: socket.socket, model_dir: str, secret: str, timeout: int) -> int:
    """Fork a worker; returns a pipe that brings a byte when it has loaded the model, or ends if it could not."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        return reader
    code = CANNOT_LOAD
    try:
        accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", handlers.JSON)
        service = handlers.Service(os.environ.get("SAGEMAKER_PROGRAM", "inference.py"), model_dir, accept)
        code = 1
        with suppress(BrokenPipeError):
            os.write(writer, b"1")
        work(listener, service, secret, timeout)
    except BaseException:  # SystemExit of the user's too: the worker ends here and nowhere else
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def work(listener: socket.socket, service: Service, secret: str, timeout: int) -> None:
    """Answer one connection after the other. Does not return."""
    while True:
        connection, _ = listener.accept()
        # Suppressed: the client went away, or was none of ours.
        with suppress(ConnectionError, ValueError), connection, connection.makefile("rwb") as stream:
            serve(stream, service, secret, timeout)


def serve(stream: Any, service: Service, secret: str, timeout: int) -> None:
    """Answer one request.

    :raises ValueError: the request is not well-formed.
    """
    head = json.loads(stream.readline(1 << 16))
    if not hmac.compare_digest(str(head.get("secret")).encode(), secret.encode()):
        return
    reply = handlers.Response(200, "text/plain", b"")
    if head["operation"] == "invoke":
        request = handlers.Request(stream.read(head["length"]), head["headers"])
        # The default action of SIGALRM ends the process even where Python cannot run a handler.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, timeout)
        reply = service.answer(request)
        signal.setitimer(signal.ITIMER_REAL, 0)
    line = {
        "status": reply.status,
        "content_type": reply.content_type,
        "custom_attributes": reply.custom_attributes,
        "length": len(reply.body),
    }
    stream.write(json.dumps(line).encode() + b"\n" + reply.body)
    stream.flush()


def main() -> int:
    """Serve on the socket whose file descriptor is the first argument the model whose directory is the second."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.set_inheritable(False)
    secret = os.environ.pop(SECRET)
    count = int(os.environ.get("SAGEMAKER_MODEL_SERVER_WORKERS") or min(2, os.cpu_count() or 1))
    timeout = int(os.environ.get("SAGEMAKER_MODEL_SERVER_TIMEOUT") or 60)
    return supervise(listener, sys.argv[2], secret, max(1, count), timeout)


if __name__ == "__main__":
    sys.exit(main())
