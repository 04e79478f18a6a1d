"""What the two triggers share: one wait with one absolute deadline, which the trigger itself enforces.

``execution_timeout`` does not act on deferred time, so nothing else would.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_sm_git.clients.watch import Listing, shared
from airflow_sm_git.core.errors import SmGitError
from airflow_sm_git.core.status import ENDPOINT, TRAINING_JOB, Phase


class StatusTrigger(BaseTrigger):
    """Wait until a resource has ended, is gone, or the deadline has passed.

    The event is ``{"phase": "succeeded"|"failed"|"stopped"|"gone"|"running", "error": text|None, "memo": …}``;
    ``running`` says that the deadline has passed. Everything else is asked by the task that resumes.

    :param name: the resource's name.
    :param since: ISO 8601 time from which on a change matters.
    :param deadline: ISO 8601 time at which to give up.
    :param check_interval: seconds between two looks.
    :param memo: what the task wants to know again when it resumes; JSON values. It travels here and not in the
        deferral's kwargs, because ``dag.test`` drops these.
    :param aws_conn_id, region_name, verify, botocore_config: as the Amazon provider's.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        name: str,
        since: str,
        deadline: str,
        check_interval: float = 30.0,
        memo: dict[str, Any] | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's is not annotated
        self.name = name
        self.since = since
        self.deadline = deadline
        self.check_interval = check_interval
        self.memo = memo or {}
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The trigger as the database keeps it."""
        kind = type(self)
        return f"{kind.__module__}.{kind.__qualname__}", {
            "name": self.name,
            "since": self.since,
            "deadline": self.deadline,
            "check_interval": self.check_interval,
            "memo": self.memo,
            **self._connection(),
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then tell once; the log hears nothing while all goes well.

        Airflow's own lines tell when a wait begins and how it ends; ours are written on the event loop, and those of
        a thousand waits hold it up.
        """
        key = (self.kind, repr(sorted(self._connection().items())))
        watcher = shared(key, self._connect)
        phase, error = Phase.RUNNING, None
        try:
            phase = await watcher.wait(
                self.name,
                since=datetime.fromisoformat(self.since),
                interval=self.check_interval,
                deadline=datetime.fromisoformat(self.deadline),
                tell=self.log.warning,
            )
        except SmGitError as trouble:
            error = str(trouble)
        yield TriggerEvent({"phase": phase.value, "error": error, "memo": await self.told()})

    async def told(self) -> dict[str, Any]:
        """The memo as the event brings it; called once, when nothing else is left to do."""
        return self.memo

    def _connection(self) -> dict[str, Any]:
        return {
            "aws_conn_id": self.aws_conn_id,
            "region_name": self.region_name,
            "verify": self.verify,
            "botocore_config": self.botocore_config,
        }

    def _connect(self) -> _Source:
        from airflow_sm_git.hooks.aws import AwsHook

        return _Source(AwsHook(**self._connection()).sagemaker(), self.kind)


class _Source:
    """A `clients.watch.Source` of one kind of resource.

    A status that this version does not know counts as running: it may be a stranger's, and must not end everybody's
    wait. The task that resumes at the deadline names it.
    """

    def __init__(self, client: Any, kind: str) -> None:
        self._client = client
        self._kind = kind
        self._phases = TRAINING_JOB if kind == "TrainingJob" else ENDPOINT

    def changed(self, since: datetime, status: str | None = None) -> list[tuple[str, Phase]]:
        listing = self._client.changed(self._kind, since.astimezone(UTC), status)
        return [(name, self._phases.get(status, Phase.RUNNING)) for name, status in listing]

    def relistings(self) -> list[Listing]:
        if self._kind == "Endpoint":  # they are few, and most are in service
            return [self.changed]
        ends = [status for status, phase in self._phases.items() if phase.ended]
        return [partial(self.changed, status=status) for status in ends]

    def look(self, name: str) -> Phase:
        answer = self._client.describe(self._kind, name)
        if answer is None:
            return Phase.GONE
        return self._phases.get(answer[f"{self._kind}Status"], Phase.RUNNING)
