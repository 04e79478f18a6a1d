"""The server: checks signatures, sends each request to its service, and writes the request log."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, unquote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from airflow_sm_git.local import wire
from airflow_sm_git.local.auth import Request, Verifier, claimed_service, family, lower
from airflow_sm_git.local.control import Control
from airflow_sm_git.local.errors import ApiError, api_error
from airflow_sm_git.local.exchange import Exchange
from airflow_sm_git.local.fault_edge import PATH, Dropped, FaultEdge, log_line
from airflow_sm_git.local.faults import Faults, Rule
from airflow_sm_git.local.identity import Iam, Sts
from airflow_sm_git.local.logs import LogStore
from airflow_sm_git.local.logs_api import LogsApi
from airflow_sm_git.local.objects import ObjectStore
from airflow_sm_git.local.s3 import S3
from airflow_sm_git.local.state import Info, State

BODY_LIMIT = 8 << 20
INVOCATION_LIMIT = 26_214_400  # SageMaker Runtime API reference, InvokeEndpoint, Body
DRAIN_LIMIT = 64 << 20
_INVOCATION = re.compile(r"/endpoints/([^/]+)/invocations")
_log = logging.getLogger(__name__)


class Server:
    """All services behind one ASGI application.

    :param state: a directory with coordinates (``State.write_info``) in it.
    """

    def __init__(self, state: State) -> None:
        info = state.load_info()
        if info is None:
            raise ValueError(f"{state.info} is missing: write it before building the server.")
        self.state = state
        self.info: Info = info
        self._verifier = Verifier(info.access_key_id, info.secret_access_key, info.region)
        self.objects = ObjectStore(state.s3)
        self.objects.create_bucket(f"sagemaker-{info.region}-{info.account}")
        self.logs = LogStore(state.log_database)
        # Invocations may take a minute each; they must not keep Describe waiting.
        self._pool = ThreadPoolExecutor(16, "api")
        self._invocations = ThreadPoolExecutor(64, "invoke")
        self._s3 = S3(self.objects, info, self._pool)
        self._query = {"sts": Sts(info), "iam": Iam(info, state.roles)}
        self._logs_api = LogsApi(self.logs, info)
        faults = Faults(self._note)
        self.control = Control(state, self.objects, self.logs, faults)
        self._edge = FaultEdge(faults, info, self.control.store) if info.faults else None
        self._requests = os.open(state.requests, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Start and stop what runs besides requests."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._pool, self.control.start)
        try:
            yield
        finally:
            await loop.run_in_executor(self._pool, self.control.stop)
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._invocations.shutdown(wait=False, cancel_futures=True)
            self.objects.close()
            self.logs.close()
            os.close(self._requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        path = scope["raw_path"].decode("ascii")
        request = Request(scope["method"], path, scope["query_string"].decode("ascii"), lower(scope["headers"]))
        if path == "/health":
            await wire.json_response({"ok": True, "pid": os.getpid()})(scope, receive, send)
            return
        exchange = Exchange(request, receive, client=(scope.get("client") or ("", 0))[1])
        if self._edge and path.startswith(PATH):
            await (await self._edge.control(exchange))(scope, receive, send)
            return
        error = ""
        try:
            response = await self._answer(exchange)
            await self._after(exchange)
        except ClientDisconnect:
            return
        except Dropped:
            self._record(exchange, 0, "")
            receive.__self__.transport.abort()  # type: ignore[attr-defined]  # uvicorn's; ASGI has no way to hang up
            return
        except ApiError as refusal:
            error = refusal.code
            response = self._refuse(exchange, refusal)
        except Exception as crash:
            _log.exception("%s %s", exchange.action, exchange.resource)
            error = "InternalFailure"
            response = self._refuse(exchange, api_error("any.internal", reason=f"{type(crash).__name__}: {crash}"))
        if error and _has_body(request) and not await _settled(exchange):
            response.headers["connection"] = "close"
        response.headers["x-amzn-RequestId"] = response.headers["x-amz-request-id"] = exchange.id
        self._record(exchange, response.status_code, error)
        await response(scope, receive, send)

    async def _answer(self, exchange: Exchange) -> Response:
        exchange.service = claimed_service(exchange.request)
        if exchange.service == "s3":
            exchange.caller = self._verifier.verify(exchange.request, None)
            return await self._s3.handle(exchange, self._before)
        invocation = _INVOCATION.fullmatch(exchange.request.path)
        body = await exchange.body(INVOCATION_LIMIT if invocation else BODY_LIMIT)
        exchange.caller = self._verifier.verify(exchange.request, body)
        loop = asyncio.get_running_loop()
        if invocation and exchange.service == "sagemaker":
            exchange.action, exchange.resource = "InvokeEndpoint", unquote(invocation[1])
            return await loop.run_in_executor(self._invocations, self._invoke, exchange, body)
        return await loop.run_in_executor(self._pool, self._call, exchange, body)

    def _before(self, exchange: Exchange) -> None:
        if self._edge:
            self._edge.before(exchange)

    async def _after(self, exchange: Exchange) -> None:
        if self._edge:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._edge.after, exchange)

    def _invoke(self, exchange: Exchange, body: bytes) -> Response:
        self._before(exchange)
        answer = self.control.invoke(exchange.resource, dict(exchange.request.headers), body)
        return Response(answer.body, answer.status, answer.headers)

    def _call(self, exchange: Exchange, body: bytes) -> Response:
        if query := self._query.get(exchange.service):
            exchange.action = parse_qs(body.decode(errors="replace")).get("Action", [""])[0]
            self._before(exchange)
            return query.handle(exchange, body)
        if exchange.service not in ("sagemaker", "logs"):
            raise api_error("any.unknown_service", service=exchange.service)
        prefix, _, exchange.action = exchange.request.header("x-amz-target").partition(".")
        if prefix != {"sagemaker": "SageMaker", "logs": "Logs_20140328"}[exchange.service]:
            raise api_error("json.unknown_action")
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise api_error("json.not_json")
        exchange.resource = _resource(exchange.action, data)
        self._before(exchange)
        if exchange.service == "logs":
            return wire.json_response(self._logs_api.handle(exchange.action, data))
        copy = self._edge.copy_for(exchange) if self._edge else None
        return wire.json_response(self.control.handle(exchange.action, data, copy))

    def _refuse(self, exchange: Exchange, error: ApiError) -> Response:
        names = family(exchange.service)
        if names == "s3":
            return wire.s3_error(error, exchange.id, head=exchange.request.method == "HEAD")
        return wire.query_error(error, exchange.id) if names == "query" else wire.json_error(error)

    def _record(self, exchange: Exchange, status: int, error: str) -> None:
        line = {
            "time": round(time.time(), 6),
            "service": exchange.service,
            "action": exchange.action,
            "resource": exchange.resource,
            "status": status,
            "error": error or None,
        }
        self._write(line | ({"fault": exchange.fault} if exchange.fault else {}))

    def _note(self, rule: Rule, service: str, action: str, resource: str) -> None:
        if rule.stage in ("job", "endpoint"):  # the others are noted with their request
            self._write({"time": round(time.time(), 6), **log_line(rule, service, action, resource)})

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._requests, json.dumps(line).encode() + b"\n")


def _has_body(request: Request) -> bool:
    return request.header("content-length") not in ("", "0") or bool(request.header("transfer-encoding"))


async def _settled(exchange: Exchange) -> bool:
    try:
        return await exchange.settle(DRAIN_LIMIT)
    except ClientDisconnect:
        return False


def _resource(action: str, body: dict[str, Any]) -> str:
    noun = re.sub(r"^[A-Z][a-z]+", "", action)
    for key in (f"{noun}Name", "TrainingJobName", "EndpointName", "ModelName", "ResourceArn", "logGroupName"):
        if isinstance(value := body.get(key), str):
            return value
    return ""


def build(state: State) -> Starlette:
    """The application that serves everything from one state directory.

    :param state: a directory in which :meth:`State.write_info` has been called.
    :raises ValueError: it has not.
    """
    server = Server(state)
    application = Starlette(lifespan=server.lifespan)
    # Not a route: routes match decoded paths, and a key may hold what their patterns do not.
    application.router.default = server
    return application
