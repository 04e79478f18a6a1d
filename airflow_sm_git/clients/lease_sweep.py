"""Delete what has expired: look, decide, and look again right before each thing that is deleted."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from airflow_sm_git.clients.jobs import stop_job
from airflow_sm_git.clients.owned import is_gone
from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.clients.survey import RunState, Survey
from airflow_sm_git.core import errors
from airflow_sm_git.core.lease import Key, Rules, Seen, Verdict, decide
from airflow_sm_git.core.status import ENDPOINT_BUSY
from airflow_sm_git.core.sweep_record import Sweep, sweep_record

# Kinds that can go at the same time; what uses the next ones comes first.
_ROUNDS = (("TrainingJob", "Endpoint"), ("EndpointConfig",), ("Model",))
_OVERLAP = timedelta(minutes=10)  # how far our clock and AWS's may be apart


def sweep(
    client: SageMakerClient,
    namespace: str,
    *,
    delete: bool,
    older_than: timedelta | None = None,
    run_state: RunState | None = None,
    wait: float = 600.0,
    check_interval: float = 5.0,
) -> Sweep:
    """List what carries a namespace in the client's region, and delete what of it has expired.

    A lease that was renewed after the listing is seen, because each resource is looked at again before it is deleted;
    SageMaker has no way to delete on a condition, so that between that look and the deletion remains a moment.

    :param delete: whether to delete.
    :param older_than: see `core.lease.Rules`.
    :param run_state: see `clients.survey.Survey`.
    :param wait: seconds in all for endpoints that cannot be deleted yet, and for those that are being deleted.
    :param check_interval: seconds between two looks at an endpoint.
    :return: the record; what could not be done is in its ``failed``, and the rest is done all the same.
    :raises AwsError: a listing was refused.
    """
    rules = Rules(namespace, datetime.now(UTC), older_than)
    return _Sweep(client, rules, run_state, time.time() + wait, check_interval).run(delete)


class _Sweep:
    """One sweep on its way."""

    def __init__(
        self,
        client: SageMakerClient,
        rules: Rules,
        run_state: RunState | None,
        deadline: float,
        check_interval: float,
    ) -> None:
        self._client = client
        self._rules = rules
        self._survey = Survey(client, rules.namespace, run_state)
        self._deadline = deadline
        self._check_interval = check_interval
        self._staying: set[Key] = set()
        self._deleted: list[str] = []
        self._gone: set[str] = set()  # by somebody else
        self._failed: list[str] = []

    def run(self, delete: bool) -> Sweep:
        found = self._survey.all()
        verdicts = {verdict.seen.key: verdict for verdict in decide(found, self._rules)}
        for kinds in _ROUNDS if delete else ():
            left = [seen for seen in found if str(seen) not in {*self._deleted, *self._gone}]
            for verdict in decide(left, self._rules, self._staying):
                if verdict.seen.kind in kinds and verdict.seen.key not in self._staying:
                    verdicts[verdict.seen.key] = self._attempt(verdict) if verdict.delete else verdict
            if "Endpoint" in kinds:
                verdicts |= {key: self._see_off(verdict) for key, verdict in verdicts.items() if self._awaited(verdict)}
        return sweep_record(
            list(verdicts.values()),
            namespace=self._rules.namespace,
            region=self._client.region,
            now=self._rules.now,
            delete=delete,
            deleted=self._deleted,
            gone=sorted(self._gone),
            failed=list(dict.fromkeys([*self._survey.trouble, *self._failed])),
        )

    def _attempt(self, verdict: Verdict) -> Verdict:
        """Look again, and delete if that is still right and can be done already; the verdict as it then is."""
        seen = verdict.seen
        try:
            now = self._survey.look(seen.kind, seen.name)
            if now is None:
                self._gone.add(str(seen))
                return verdict
            fresh = self._judge_again(now)
            if not fresh.delete:
                self._staying.add(seen.key)
            elif now.status != "Deleting" and now.status not in ENDPOINT_BUSY:
                self._delete(now)
            return fresh
        except errors.AwsError as error:
            return self._left(verdict, error.what)

    def _judge_again(self, now: Seen) -> Verdict:
        """The verdict on what has just been looked at; who uses it may have come after the survey."""
        users = self._survey.users_since(self._rules.now - _OVERLAP) if now.kind in ("EndpointConfig", "Model") else []
        rules = replace(self._rules, now=datetime.now(UTC))
        verdicts = decide([now, *(user for user in users if user.key != now.key)], rules)
        # Without a verdict it is no longer ours: its tags have changed.
        return verdicts[0] if verdicts else Verdict(now, False, "it no longer carries the namespace")

    def _delete(self, seen: Seen) -> None:
        if seen.kind == "TrainingJob":
            done = stop_job(self._client, seen.name, "sweep")
        else:
            done = self._client.delete(seen.kind, seen.name)
        if done:
            self._deleted.append(str(seen))
        else:
            self._gone.add(str(seen))

    def _awaited(self, verdict: Verdict) -> bool:
        seen = verdict.seen
        over = str(seen) in self._gone or seen.key in self._staying
        return seen.kind == "Endpoint" and verdict.delete and not over

    def _see_off(self, verdict: Verdict) -> Verdict:
        """Wait for an endpoint that could not be deleted yet, delete it, and see that it is gone."""
        name, title = verdict.seen.name, str(verdict.seen)
        try:
            if title not in self._deleted:
                self._client.wait("Endpoint", name, check_interval=self._check_interval, deadline=self._deadline)
                verdict = self._attempt(verdict)
                if verdict.seen.key in self._staying:
                    return verdict
            if is_gone(self._client, name, self._check_interval, self._deadline):
                self._gone |= {title} - {*self._deleted}
                return verdict
            now = self._client.describe("Endpoint", name) or {"EndpointStatus": "Deleting"}
            self._deleted = [each for each in self._deleted if each != title]
            return self._left(verdict, f"{title} is still {now['EndpointStatus']}: the next sweep takes it.")
        except errors.AwsError as error:
            return self._left(verdict, error.what)

    def _left(self, verdict: Verdict, why: str) -> Verdict:
        self._staying.add(verdict.seen.key)
        self._failed.append(why)
        return replace(verdict, reason=f"{verdict.reason}, but it could not be deleted")
