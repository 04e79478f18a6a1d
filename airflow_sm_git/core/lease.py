"""What a sweep may delete: one decision over what was seen, so that nothing else ever decides.

Ours is what carries the namespace in its tags. Of that, a sweep takes what has a lease that has ended, and a running
job of which the run is over. What has no lease is standing and stays; so does what something that stays still uses.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.names import tag_value

LEASE = "lease-until"
DETACHED = "detached"  # tag of a job that its run does not wait for: the run's end says nothing about it
ORDER = ("TrainingJob", "Endpoint", "EndpointConfig", "Model")  # in which they can be deleted
ALIVE, ENDED, GONE = "alive", "ended", "gone"  # what Airflow says of a run; empty where it says nothing

_USER_OF = {"EndpointConfig": "Endpoint", "Model": "EndpointConfig"}
_CUT = re.compile(r"\.\.\.[a-z2-7]{12}")  # the end of a value that `names.tag_value` has cut
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1}

Key = tuple[str, str]


@dataclass(frozen=True)
class Seen:
    """A resource as it was when it was looked at.

    :param kind: one of `ORDER`.
    :param tags: our tags of it, by key without the prefix; empty for what is somebody else's.
    :param status: its status; empty for kinds that have none.
    :param uses: names of the configurations (of an endpoint) or models (of a configuration) that it needs; None where
        that could not be told.
    :param run: what Airflow says of the run that made it: alive, ended, gone; empty where nobody was asked.
    """

    kind: str
    name: str
    created: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    status: str = ""
    uses: tuple[str, ...] | None = ()
    run: str = ""

    @property
    def key(self) -> Key:
        """What tells it from all others."""
        return self.kind, self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Rules:
    """By what to decide.

    :param namespace: of what is ours.
    :param older_than: what has a lease and was made longer ago than this counts as expired too; None for leases alone.
    """

    namespace: str
    now: datetime
    older_than: timedelta | None = None


@dataclass(frozen=True)
class Verdict:
    """What becomes of a resource that is ours, and why."""

    seen: Seen
    delete: bool
    reason: str


def decide(found: Iterable[Seen], rules: Rules, staying: Collection[Key] = ()) -> list[Verdict]:
    """Decide over everything that was seen.

    :param found: ours, and all of others that may use ours.
    :param staying: what cannot be deleted, whatever its lease.
    :return: a verdict on each resource that is ours, in an order in which those to be deleted can be.
    """
    found = list(found)
    verdicts = {seen.key: judge(seen, rules) for seen in found if is_ours(seen, rules.namespace)}
    for key in staying:
        if key in verdicts:
            verdicts[key] = replace(verdicts[key], delete=False, reason="it could not be deleted")
    for kind, user_kind in _USER_OF.items():
        users = [s for s in found if s.kind == user_kind and not (s.key in verdicts and verdicts[s.key].delete)]
        for key, verdict in verdicts.items():
            if verdict.delete and key[0] == kind:
                verdicts[key] = _unless_used(verdict, users)
    return sorted(verdicts.values(), key=lambda v: (ORDER.index(v.seen.kind), v.seen.created, v.seen.name))


def _unless_used(verdict: Verdict, users: list[Seen]) -> Verdict:
    for user in users:
        if user.uses is None:
            return replace(verdict, delete=False, reason=f"what {user} uses could not be told")
        if verdict.seen.name in user.uses:
            return replace(verdict, delete=False, reason=f"{user} uses it")
    return verdict


def is_ours(seen: Seen, namespace: str) -> bool:
    """Whether a resource carries the namespace; one without tags never does."""
    return "namespace" in seen.tags and tag_value(seen.tags["namespace"]) == tag_value(namespace)


def judge(seen: Seen, rules: Rules) -> Verdict:
    """Decide over one resource that is ours, without what others need of it."""
    if seen.kind == "TrainingJob":
        if seen.status != "InProgress":
            return Verdict(seen, False, f"it does not run: {seen.status}")
        if seen.run == ALIVE:
            return Verdict(seen, False, "its run has not ended")
    if LEASE not in seen.tags:
        return Verdict(seen, False, "it has no lease: it is standing")
    until = lease_end(seen)
    if until is None:
        return Verdict(seen, False, f"its lease cannot be read: {seen.tags[LEASE]!r}")
    if until <= rules.now:
        return Verdict(seen, True, "its lease has ended")
    if rules.older_than is not None and rules.now - seen.created > rules.older_than:
        return Verdict(seen, True, f"it is older than {rules.older_than}")
    if seen.kind == "TrainingJob" and seen.run in (ENDED, GONE) and DETACHED not in seen.tags:
        return Verdict(seen, True, "its run has ended" if seen.run == ENDED else "its run is gone")
    return Verdict(seen, False, "its lease has not ended")


def lease_end(seen: Seen) -> datetime | None:
    """When a resource's lease ends; None if it has none, or one that cannot be read."""
    try:
        until = datetime.fromisoformat(seen.tags.get(LEASE, ""))
    except ValueError:
        return None
    return until if until.tzinfo is not None else None


def whole_tag(text: str | None) -> str | None:
    """A tag's text, unless it was too long to be kept whole: then it names nothing."""
    return None if not text or _CUT.search(text[-15:]) else text


def duration(parameter: str, text: str) -> timedelta:
    """Read a duration such as ``3d``, ``12h``, ``90m`` or ``3600`` (seconds).

    :raises BadParameter: it is none, or nothing at all.
    """
    match = re.fullmatch(r"(\d{1,9})([dhms]?)", text.strip(), re.ASCII)
    if match is None or int(match[1]) == 0:
        raise BadParameter(parameter, text, "is not a duration", "Write one such as 3d, 12h, 90m, or seconds.")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
