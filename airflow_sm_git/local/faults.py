"""Faults on demand: what shall go wrong, with which request or resource, and how often. Off unless asked for.

A rule waits for what it names, lets the first ``skip`` of it pass, then acts ``times`` times. Each time is written into
the request log: a test may count on a fault only if it is there.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Literal

from airflow_sm_git.local.errors import ApiError

Stage = Literal["before", "after", "job", "endpoint"]

# Code, status and text of the refusals, for JSON and Query services and for S3. Sources: the API references' common
# errors; for the texts of AccessDenied and of quotas, AWS's answers as quoted in public issue reports; S3: Amazon S3
# API reference, Error responses.
REFUSALS: Mapping[str, tuple[tuple[str, int, str], tuple[str, int, str]]] = {
    "throttle": (("ThrottlingException", 400, "Rate exceeded"), ("SlowDown", 503, "Please reduce your request rate.")),
    "unavailable": (
        ("ServiceUnavailable", 503, "The request has failed due to a temporary failure of the server."),
        ("ServiceUnavailable", 503, "Service is unable to handle request."),
    ),
    "internal": (
        (
            "InternalFailure",
            500,
            "The request processing has failed because of an unknown error.",
        ),
        ("InternalError", 500, "An internal error occurred. Try again."),
    ),
    "denied": (
        (
            "AccessDeniedException",
            400,
            "User: arn:aws:iam::{account}:user/local is not authorized to perform: {service}:{action} on resource: "
            "{resource} because no identity-based policy allows the {service}:{action} action",
        ),
        ("AccessDenied", 403, "Access Denied"),
    ),
    "quota": (
        (
            "ResourceLimitExceeded",
            400,
            "The account-level service limit 'instances for this usage' is 0 Instances, with current utilization of 0 "
            "Instances and a request delta of 1 Instances. Please use AWS Service Quotas to request an increase.",
        ),
        ("SlowDown", 503, "Please reduce your request rate."),
    ),
    "expired": (
        ("ExpiredTokenException", 400, "The security token included in the request is expired"),
        ("ExpiredToken", 400, "The provided token has expired."),
    ),
}
KINDS: Mapping[str, Stage] = {
    **dict.fromkeys(REFUSALS, "before"),
    "delay": "before",  # answers `seconds` later
    "hold": "before",  # answers when the rule is released or removed
    "stale": "before",  # List… answers from what was there when the rule was made
    "kill": "before",  # SIGKILL for the process that asks
    "lose": "after",  # accepted, but the connection ends without an answer
    "capacity": "job",  # no instance: the job fails, or the endpoint does not come up
    "spot": "job",  # the instance is taken away after `seconds`; the job starts again
    "stuck": "endpoint",  # stays Creating or Updating until the rule is released or removed
}


@dataclass
class Rule:
    """One fault.

    :param kind: a key of :data:`KINDS`.
    :param service: ``sagemaker``, ``s3``, ``logs``, ``sts``, ``iam``; empty: any.
    :param action: the API's name, such as ``CreateTrainingJob``, or a pattern such as ``List*``; empty: any.
    :param resource: part of the resource's name; empty: any.
    :param when: ``before`` the request acts, or ``after``; by default as the kind says.
    :param skip: how many that it fits are let through first.
    :param times: how often it acts; 0: until it is removed.
    :param seconds: of a ``delay``, and until ``spot`` strikes.
    :param hits: how often it has acted.
    :param holding: how many requests or resources it holds now.
    """

    kind: str
    service: str = ""
    action: str = ""
    resource: str = ""
    when: str = ""
    skip: int = 0
    times: int = 1
    seconds: float = 0.0
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    hits: int = 0
    holding: int = 0
    released: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def stage(self) -> str:
        """Where it acts."""
        return self.when or KINDS[self.kind]

    def fits(self, service: str, action: str, resource: str) -> bool:
        """Whether it is meant for this."""
        named = fnmatchcase(action, self.action or "*")
        return named and self.service in ("", service) and self.resource in resource

    def public(self) -> dict[str, Any]:
        """As the control API shows it."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "released"}

    def refusal(self, service: str, action: str, resource: str, account: str) -> ApiError:
        """The error that a rule of a refusing kind answers with."""
        code, status, text = REFUSALS[self.kind][service == "s3"]
        return ApiError(
            code, text.format(service=service, action=action, resource=resource or "*", account=account), status, {}
        )


def parse(data: object) -> Rule:
    """A rule from the control API's JSON.

    :raises ValueError: an unknown kind or member, or a value of the wrong type.
    """
    if not isinstance(data, dict):
        raise ValueError("a rule is a JSON object")
    known = {"kind": str, "service": str, "action": str, "resource": str, "when": str, "skip": int, "times": int}
    for name, value in data.items():
        if name == "seconds" and isinstance(value, int | float):
            continue
        if name not in known or type(value) is not known[name]:
            raise ValueError(f"{name}={value!r}: not a member of a rule, or of the wrong type")
    if data.get("kind") not in KINDS:
        raise ValueError(f"kind={data.get('kind')!r}: choose from {', '.join(KINDS)}")
    if data.get("when", "") not in ("", "before", "after"):
        raise ValueError(f"when={data['when']!r}: 'before' or 'after'")
    return Rule(**data)


class Faults:
    """The rules of one server. Any number of threads may ask.

    :param on_hit: called with each rule that acts, and the service, action and resource that it acts on.
    """

    def __init__(self, on_hit: Callable[[Rule, str, str, str], None] = lambda *_: None) -> None:
        self._on_hit = on_hit
        self._lock = threading.Lock()
        self._rules: dict[str, Rule] = {}

    def add(self, rule: Rule) -> None:
        """Put a rule in force, after those that are."""
        with self._lock:
            self._rules[rule.id] = rule

    def remove(self, rule_id: str | None = None) -> None:
        """Take a rule, or all of them, out of force; what it holds goes on."""
        with self._lock:
            gone = [self._rules.pop(rule_id, None)] if rule_id else list(self._rules.values())
            if not rule_id:
                self._rules.clear()
        for rule in gone:
            if rule is not None:
                rule.released.set()

    def release(self, rule_id: str) -> bool:
        """Let go of what a rule holds, and hold nothing more; False if there is no such rule."""
        with self._lock:
            rule = self._rules.get(rule_id)
        if rule is None:
            return False
        rule.released.set()
        return True

    def rules(self) -> list[dict[str, Any]]:
        """All rules in force, and those that have done their part."""
        with self._lock:
            return [rule.public() for rule in self._rules.values()]

    def take(self, stage: Stage, service: str, action: str, resource: str, kind: str = "*") -> Rule | None:
        """The first rule that acts here and now; it is counted.

        :param kind: the only one that can act here, where not all of the stage can.
        """
        rule = self._count(stage, service, action, resource, kind)
        if rule is not None:
            self._on_hit(rule, service, action, resource)
        return rule

    def _count(self, stage: Stage, service: str, action: str, resource: str, kind: str) -> Rule | None:
        with self._lock:
            for rule in self._rules.values():
                if rule.stage != stage or rule.released.is_set() or not fnmatchcase(rule.kind, kind):
                    continue
                if not rule.fits(service, action, resource):
                    continue
                if rule.times and rule.hits >= rule.times:
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                rule.hits += 1
                return rule
        return None

    def hold(self, rule: Rule) -> None:
        """Wait until the rule is released or removed."""
        with self._lock:
            rule.holding += 1
        try:
            rule.released.wait()
        finally:
            with self._lock:
                rule.holding -= 1
