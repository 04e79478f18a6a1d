"""The model processes behind the endpoints: which endpoint is served by which, and who is using them."""

from __future__ import annotations

import random
import shutil
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_sm_git.local.context import Context
from airflow_sm_git.local.hosting import HostingError, ModelDataMissing, ModelProcess
from airflow_sm_git.local.models import data_uri

LOG_GROUP = "/aws/sagemaker/Endpoints"
DRAIN = 60.0
"""Seconds that requests under way may take when their processes are replaced; InvokeEndpoint's own limit on AWS."""
_LAST_LOOK = 1.0
"""Seconds for the ping of a container whose time went by while another one was waited for: it may have loaded."""


# AWS's texts, as quoted in public issues: for every container that does not come up, whatever the reason
# (sagemaker-python-sdk 787), and for a model's archive that cannot be had (fraud-detection-using-machine-learning 9).
PING_FAILED = (
    "The primary container for production variant {variant} did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)
DOWNLOAD_FAILED = (
    'Failed to download model data for container "container_1" from URL: "{url}". Please ensure that there is an '
    "object located at the URL and that the role passed to CreateModel has permissions to download the object."
)


class FleetFailed(Exception):
    """A variant's container did not come up; the text is what FailureReason shall say, its log stream says more."""


@dataclass(frozen=True)
class Member:
    """One variant's running process, what its log stream is called, and when it was started (``time.monotonic``)."""

    variant: str
    process: ModelProcess
    stream: str
    started: float


class Fleet:
    """The processes of one deployment of an endpoint: one for each variant, whatever instance count is asked for."""

    def __init__(self, members: Mapping[str, Member], workspace: Path) -> None:
        self._members = members
        self._workspace = workspace
        self._in_use = 0
        self._idle = threading.Condition()

    @classmethod
    def start(cls, context: Context, endpoint: str, deployment: Mapping[str, Any]) -> Fleet:
        """Start a process for every variant and wait until each answers its ping, at most its ``StartupTimeout``.

        :param deployment: what :func:`airflow_sm_git.local.endpoints.deployment` made.
        :raises FleetFailed: one did not; none is left running.
        """
        workspace = context.state.endpoints / f"{endpoint}-{uuid.uuid4().hex[:8]}"
        members: dict[str, Member] = {}
        fleet = cls(members, workspace)
        try:
            for variant in deployment["Variants"]:
                name = variant["VariantName"]
                members[name] = _launch(context, endpoint, variant, workspace / name)
            # All load at the same time; then each is waited for.
            for variant, member in zip(deployment["Variants"], members.values(), strict=True):
                left = member.started + variant["StartupTimeout"] - time.monotonic()
                if not member.process.ping(max(_LAST_LOOK, left)):
                    raise FleetFailed(PING_FAILED.format(variant=member.variant))
        except BaseException:
            fleet.stop()
            raise
        return fleet

    @contextmanager
    def use(self, weights: Mapping[str, float], target: str | None) -> Iterator[Member | None]:
        """The member that shall answer one request; it is not stopped before the block ends.

        :param weights: traffic by variant.
        :param target: the variant that the caller wants, or None for one by weight.
        :returns: None if there is no such variant.
        """
        with self._idle:
            self._in_use += 1
        try:
            yield self._members.get(target or _pick(weights, self._members))
        finally:
            with self._idle:
                self._in_use -= 1
                self._idle.notify_all()

    def retire(self, timeout: float = DRAIN) -> None:
        """Stop once nobody uses it any more, or after ``timeout`` seconds."""
        with self._idle:
            self._idle.wait_for(lambda: not self._in_use, timeout)
        self.stop()

    def stop(self) -> None:
        """Stop every process and remove its directory."""
        for member in self._members.values():
            member.process.stop()
        shutil.rmtree(self._workspace, ignore_errors=True)


class Fleets:
    """Which fleet serves which endpoint."""

    def __init__(self) -> None:
        self._serving: dict[str, Fleet] = {}
        self._changed = threading.Condition()

    def switch(self, endpoint: str, fleet: Fleet | None) -> Fleet | None:
        """Let ``fleet`` serve the endpoint from now on (None: nobody).

        :returns: the one that served it until now.
        """
        with self._changed:
            before = self._serving.pop(endpoint, None)
            if fleet is not None:
                self._serving[endpoint] = fleet
            self._changed.notify_all()
            return before

    @contextmanager
    def serving(
        self, endpoint: str, weights: Mapping[str, float], target: str | None, timeout: float
    ) -> Iterator[Member | None]:
        """The member that shall answer one request to the endpoint.

        :param timeout: seconds to wait for a fleet, which after a restart of the server may still be on its way.
        :raises TimeoutError: there was none in that time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: endpoint in self._serving, timeout):
                raise TimeoutError(endpoint)
            fleet = self._serving[endpoint].use(weights, target)
            member = fleet.__enter__()  # under the lock: a switch cannot come in between
        try:
            yield member
        finally:
            fleet.__exit__(None, None, None)

    def stop(self) -> None:
        """Stop all fleets at once."""
        with self._changed:
            fleets, self._serving = list(self._serving.values()), {}
        for fleet in fleets:
            fleet.stop()


def _pick(weights: Mapping[str, float], there: Collection[str]) -> str:
    # At the moment of a switch the weights may still be those of the fleet before, which had other variants.
    names = [name for name in weights if name in there] or list(there)
    values = [weights.get(name, 0.0) for name in names]
    # All weights may be 0 (SageMaker API reference, InitialVariantWeight): then no variant is preferred.
    return random.choices(names, values if any(values) else None)[0]  # noqa: S311 - traffic, not secrets


def _launch(context: Context, endpoint: str, variant: Mapping[str, Any], workspace: Path) -> Member:
    name = variant["VariantName"]
    stream = f"{name}/i-{uuid.uuid4().hex[:17]}"

    def log(line: str) -> None:
        context.logs.append(f"{LOG_GROUP}/{endpoint}", stream, [(int(time.time() * 1000), line)])

    [container] = variant["Containers"]
    try:
        process = ModelProcess.start(
            container,
            model_data=data_uri(container),
            workspace=workspace,
            objects=context.objects,
            overlays=context.state.overlays,
            log=log,
            aws=context.aws,
            region=context.region,
        )
    except ModelDataMissing as error:
        log(f"The container did not start: {error}")
        raise FleetFailed(DOWNLOAD_FAILED.format(url=data_uri(container))) from error
    except HostingError as error:
        log(f"The container did not start: {error}")
        raise FleetFailed(PING_FAILED.format(variant=name)) from error
    return Member(name, process, stream, time.monotonic())
