"""Where faults meet requests, and the control API that makes them: ``/_faults``, of a server started with faults.

::

    GET    /_faults              the rules in force, with their hits and what they hold
    POST   /_faults              a new rule (JSON, the members of :class:`~airflow_sm_git.local.faults.Rule`)
    POST   /_faults/ID/release   let go of what a rule holds
    DELETE /_faults[/ID]         one rule, or all, out of force

Each request carries the server's secret key as ``Authorization: Bearer``.
"""

from __future__ import annotations

import hmac
import json
import os
import signal
import time
from typing import Any

import psutil
from starlette.responses import Response

from airflow_sm_git.local import wire
from airflow_sm_git.local.exchange import Exchange
from airflow_sm_git.local.faults import REFUSALS, Faults, Rule, Stage, parse
from airflow_sm_git.local.state import Info
from airflow_sm_git.local.store import Store

PATH = "/_faults"
KILL_TRIES = 20


class Dropped(Exception):
    """The connection ends without an answer."""


class FaultEdge:
    """Lets the rules of a server act on its requests.

    :param store: SageMaker's resources, of which stale listings keep copies.
    """

    def __init__(self, faults: Faults, info: Info, store: Store) -> None:
        self._faults = faults
        self._info = info
        self._store = store
        self._copies: dict[str, Store] = {}

    def before(self, exchange: Exchange) -> None:
        """Act on a request that is understood, but has changed nothing yet.

        :raises ApiError: the rule refuses it.
        :raises Dropped: nobody is to be answered.
        """
        self._act("before", exchange)

    def after(self, exchange: Exchange) -> None:
        """Act on a request that has had its effect; raises as :meth:`before`."""
        self._act("after", exchange)

    def copy_for(self, exchange: Exchange) -> Store | None:
        """The resources as a stale listing still sees them."""
        return self._copies.get(exchange.stale)

    def _act(self, stage: Stage, exchange: Exchange) -> None:
        rule = self._faults.take(stage, exchange.service, exchange.action, exchange.resource)
        if rule is None:
            return
        exchange.fault = rule.kind
        if rule.kind in REFUSALS:
            raise rule.refusal(exchange.service, exchange.action, exchange.resource, self._info.account)
        if rule.kind == "delay":
            rule.released.wait(rule.seconds)
        elif rule.kind == "hold":
            self._faults.hold(rule)
        elif rule.kind == "stale":
            exchange.stale = rule.id
        elif rule.kind == "kill":
            _kill(exchange.client, self._info.port)
            raise Dropped
        elif rule.kind == "lose":
            raise Dropped

    async def control(self, exchange: Exchange) -> Response:
        """Answer a request of the control API."""
        given = exchange.request.header("authorization").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._info.secret_access_key.encode()):
            return wire.json_response({"message": "the server's secret key is wanted as a bearer token"}, 403)
        rule_id, _, verb = exchange.request.path.removeprefix(PATH).strip("/").partition("/")
        match exchange.request.method, bool(rule_id), verb:
            case "GET", False, "":
                return wire.json_response(self._faults.rules())
            case "POST", False, "":
                return self._add(await exchange.body(1 << 16))
            case "POST", True, "release":
                return wire.json_response({}, 200 if self._faults.release(rule_id) else 404)
            case "DELETE", _, "":
                self._remove(rule_id or None)
                return wire.json_response({})
        return wire.json_response({"message": "see airflow_sm_git/local/fault_edge.py"}, 404)

    def _add(self, body: bytes) -> Response:
        try:
            rule = parse(json.loads(body))
        except ValueError as error:
            return wire.json_response({"message": str(error)}, 400)
        if rule.kind == "stale":
            self._copies[rule.id] = self._store.copy()
        self._faults.add(rule)
        return wire.json_response(rule.public(), 201)

    def _remove(self, rule_id: str | None) -> None:
        self._faults.remove(rule_id)
        for gone in [rule_id] if rule_id else list(self._copies):
            if copy := self._copies.pop(gone, None):
                copy.close()


def _kill(port: int, server: int) -> None:
    """SIGKILL for the process on this machine that has the client's end of the connection.

    :param port: the client's; connections to elsewhere may have the same.
    :param server: this server's.

    A look at all connections may miss one while processes come and go, so it is not the only one.
    """
    for _ in range(KILL_TRIES):
        for connection in psutil.net_connections("tcp"):
            if _ends(connection) == (port, server) and connection.pid not in (None, os.getpid()):
                os.kill(connection.pid, signal.SIGKILL)
                return
        time.sleep(0.02)


def _ends(connection: Any) -> tuple[int, int] | None:
    return (connection.laddr.port, connection.raddr.port) if connection.laddr and connection.raddr else None


def log_line(rule: Rule, service: str, action: str, resource: str) -> dict[str, object]:
    """What the request log says of a fault that acts on a job or an endpoint instead of a request."""
    where = {"service": service, "action": action, "resource": resource}
    return {**where, "status": None, "error": None, "fault": rule.kind}
