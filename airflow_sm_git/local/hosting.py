"""One model behind an endpoint: its files, its process, and the conversation with it."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_sm_git.local import model_server, overlay
from airflow_sm_git.local.errors import ApiError
from airflow_sm_git.local.handlers import CUSTOM_ATTRIBUTES
from airflow_sm_git.local.objects import ObjectStore
from airflow_sm_git.local.process import GuardedProcess, ProcessError, base_environment
from airflow_sm_git.local.workspace import DataError, Workspace, inside, parse_uri

MODEL_DIR = "/opt/ml/model"
INVOKE_TIMEOUT = 60.0
"""Seconds a container has for one answer (SageMaker API reference, InvokeEndpoint)."""
STARTUP_TIMEOUT = 480.0
"""Seconds until the first answer to a ping, where ``ContainerStartupHealthCheckTimeoutInSeconds`` (60 to 3600) is not
given: the SageMaker API reference, ProductionVariant, has no default; the Developer Guide, "How Your Container Should
Respond to Health Check (Ping) Requests", gives a container 8 minutes after its start."""


class HostingError(Exception):
    """A model could not be brought up; the text says why."""


class ModelDataMissing(HostingError):
    """The model's data cannot be had."""


@dataclass(frozen=True)
class Reply:
    """What the container answered.

    :param status: HTTP status; the handlers' exceptions are 500.
    :param body: the answer, or what went wrong, with the traceback.
    :param custom_attributes: value of ``X-Amzn-SageMaker-Custom-Attributes``, if the handlers set one.
    """

    status: int
    content_type: str
    body: bytes
    custom_attributes: str | None = None


class ModelProcess:
    """A model being served. Made by :meth:`start`; thread-safe."""

    def __init__(self, workspace: Workspace, listener: socket.socket, secret: str, timeout: float) -> None:
        self._workspace = workspace
        self._address = listener.getsockname()
        self._secret = secret
        self._timeout = timeout
        self._process: GuardedProcess | None = None
        self._loaded = False
        self._quiet = threading.Condition()
        self._in_flight = 0

    @classmethod
    def start(
        cls,
        container: Mapping[str, Any],
        *,
        model_data: str | None,
        workspace: Path,
        objects: ObjectStore,
        overlays: Path,
        log: Callable[[str], None],
        aws: Mapping[str, str] | None = None,
        region: str = "us-east-1",
        timeout: float = INVOKE_TIMEOUT,
        mounts: bool = True,
    ) -> ModelProcess:
        """Bring in a model's files and requirements, and start its process. Returns before the handlers are loaded.

        :param container: container definition of CreateModel; its ``Environment`` names the program.
        :param model_data: S3 URI of ``model.tar.gz``, or of a prefix that ends with ``/``; None: no data.
        :param workspace: directory for its files; made here, and gone after :meth:`stop`.
        :param objects: where S3 objects are.
        :param overlays: where environments made from requirements.txt are kept.
        :param log: called with every line of its output.
        :param aws: ``AWS_*`` variables with which the handlers reach the local services.
        :param timeout: seconds an invocation may take.
        :param mounts: False to do without a private ``/opt/ml`` even where the system allows it.
        :raises HostingError: the model's data or code cannot be had, or its requirements not be installed.
        """
        place = Workspace(workspace, objects)
        environment = dict(container.get("Environment", {}))
        try:
            _bring_in(place, model_data, environment)
            library = overlay.ensure(place.model / "code", overlays, log)
            return cls._launch(place, environment, library, log, dict(aws or {}), region, timeout, mounts)
        except (DataError, HostingError, overlay.OverlayError, ProcessError) as error:
            place.remove()
            raise (error if isinstance(error, HostingError) else HostingError(str(error))) from error

    @classmethod
    def _launch(
        cls,
        place: Workspace,
        environment: dict[str, str],
        library: Path | None,
        log: Callable[[str], None],
        aws: dict[str, str],
        region: str,
        timeout: float,
        mounts: bool,
    ) -> ModelProcess:
        # Bound here and inherited: no port is announced, and one that connects early waits instead of failing.
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            model = cls(place, listener, secrets.token_hex(16), timeout)
            code = [f"{MODEL_DIR}/code", *([str(library)] if library else []), environment.get("PYTHONPATH", "")]
            env = {
                **base_environment(str(place.home), str(place.temporary)),
                "AWS_REGION": region,
                "AWS_DEFAULT_REGION": region,
                **aws,
                **environment,
                "PYTHONPATH": ":".join(filter(None, code)),
                "SAGEMAKER_BASE_DIR": "/opt/ml",
                model_server.SECRET: model._secret,
            }
            argv = [sys.executable, "-P", model_server.__file__, str(listener.fileno()), MODEL_DIR]
            model._process = GuardedProcess.start(
                argv,
                env=env,
                cwd=place.temporary,
                opt_ml=place.ml,
                on_line=log,
                keep=[listener.fileno()],
                mounts=mounts,
            )
        if not model._process.private:
            log(f"No private /opt/ml is possible here: in arguments and variables it is now {place.ml}")
        return model

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.wait(0) is None

    def ping(self, timeout: float = STARTUP_TIMEOUT) -> bool:
        """Whether it can serve: waits until the handlers are loaded (True), or it has ended or time is up (False).

        Once they were loaded: whether its process runs.

        :param timeout: seconds (``ContainerStartupHealthCheckTimeoutInSeconds``).
        """
        if not self._loaded:
            with suppress(OSError, ValueError):
                self._loaded = self._ask({"operation": "ping"}, b"", timeout).status == 200
        return self._loaded and self.alive

    def invoke(
        self, body: bytes, content_type: str | None, accept: str | None, custom_attributes: str | None = None
    ) -> Reply:
        """Let the handlers answer. Their exceptions, and the death or slowness of their process, are replies too.

        :param body: the request's bytes.
        :param content_type: its ``Content-Type``, if it had one.
        :param accept: its ``Accept``, if it had one.
        :param custom_attributes: its ``X-Amzn-SageMaker-Custom-Attributes``, if it had one.
        """
        headers = {"Content-Type": content_type, "Accept": accept, CUSTOM_ATTRIBUTES: custom_attributes}
        given = {name: value for name, value in headers.items() if value is not None}
        with self._quiet:
            self._in_flight += 1
        try:
            return self._ask({"operation": "invoke", "headers": given}, body, self._timeout)
        except TimeoutError:
            text = f"Your invocation timed out while waiting for a response from the container ({self._timeout:g} s)."
            return Reply(504, "text/plain", text.encode())
        except (OSError, ValueError):
            return Reply(500, "text/plain", b"Worker died.")  # multi-model-server's words
        finally:
            with self._quiet:
                self._in_flight -= 1
                self._quiet.notify_all()

    def stop(self, grace: float = 2.0, drain: float = 0.0) -> None:
        """End it, and remove its files; returns when nothing is left. May be called again.

        :param grace: seconds between SIGTERM and SIGKILL.
        :param drain: seconds to let invocations that are under way finish first.
        """
        with self._quiet:
            self._quiet.wait_for(lambda: not self._in_flight, drain)
        if self._process:
            self._process.stop(grace)
            self._process.wait()
        self._workspace.remove()

    def _ask(self, head: dict[str, Any], body: bytes, timeout: float) -> Reply:
        """One request and its reply.

        :raises OSError: no answer in time (TimeoutError), or no process to give one.
        :raises ValueError: half an answer.
        """
        deadline = time.monotonic() + timeout
        with socket.create_connection(self._address, timeout) as connection, connection.makefile("rb") as stream:
            line = json.dumps({**head, "secret": self._secret, "length": len(body)}).encode() + b"\n"
            connection.sendall(line + body)
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            about = json.loads(stream.readline())
            answer = stream.read(about["length"])
        if len(answer) != about["length"]:
            raise ValueError("the answer broke off")
        return Reply(about["status"], about["content_type"], answer, about["custom_attributes"])


def _bring_in(place: Workspace, model_data: str | None, environment: Mapping[str, str]) -> None:
    """Fill ``/opt/ml/model``, and its ``code`` from an archive of its own if there is one.

    :raises ModelDataMissing: the model's data is not there.
    :raises DataError: the code is not, or something cannot be unpacked.
    """
    try:
        _bring_in_model(place, model_data)
    except DataError as error:
        if isinstance(error.__cause__, ApiError):
            raise ModelDataMissing(str(error)) from error
        raise
    submitted = environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
    if submitted.startswith("s3://"):
        shutil.rmtree(place.model / "code", ignore_errors=True)
        place.unpack(submitted, place.model / "code")


def _bring_in_model(place: Workspace, model_data: str | None) -> None:
    if model_data and model_data.endswith("/"):
        bucket, prefix = parse_uri(model_data)
        try:
            for info in place.objects.list(bucket, prefix):
                place.fetch(bucket, info.key, inside(place.model, info.key.removeprefix(prefix)))
        except ApiError as error:
            raise DataError(f"{model_data}: {error.message}") from error
    elif model_data:
        place.unpack(model_data, place.model)
