"""A sweep's record and its lines say what became of each resource."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from airflow_sm_git.core.lease import Rules, Seen, decide
from airflow_sm_git.core.sweep_record import Sweep, counts, render, sweep_record

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PAST, FUTURE = "2026-04-30T12:00:00Z", "2026-05-02T12:00:00Z"


def seen(kind: str, name: str, lease: str | None = PAST, **fields: Any) -> Seen:
    tags = {"namespace": "ns", "dag": "d", "run": "r", "owner": "o"} | ({"lease-until": lease} if lease else {})
    return Seen(kind, name, NOW - timedelta(days=2), tags, **fields)


def record(*found: Seen, **done: Any) -> Sweep:
    options = {"namespace": "ns", "region": "us-east-1", "now": NOW, "delete": True, **done}
    return sweep_record(decide(found, Rules("ns", NOW)), **options)


SCENE = (
    seen("TrainingJob", "job", status="InProgress"),
    seen("Endpoint", "endpoint", FUTURE, status="InService", uses=("config",)),
    seen("EndpointConfig", "config"),
    seen("Model", "standing", None),
    seen("Model", "old"),
    seen("Model", "taken"),
)


def test_each_line_says_whose_it_is_until_when_and_what_became_of_it() -> None:
    done = record(*SCENE, deleted=["TrainingJob job", "Model old"], gone=["Model taken"])
    assert [line.split("  ")[-1] for line in render(done)] == [
        "stopped: its lease has ended",
        "kept: its lease has not ended",
        "kept: Endpoint endpoint uses it",
        "deleted: its lease has ended",
        "kept: it has no lease: it is standing",
        "gone: its lease has ended",
        "2 deleted, 3 kept",
    ]
    first = render(done)[0]
    for said in ("TrainingJob job", "InProgress", f"lease until {PAST}", "dag d, run r"):
        assert said in first
    assert "no lease" in render(done)[4]


def test_a_listing_says_what_is_expired_and_how_to_delete_it() -> None:
    lines = render(record(*SCENE, delete=False))
    assert lines[0].endswith("expired: its lease has ended")
    assert lines[-1] == "3 of 6 expired; nothing deleted, add --delete"
    assert render(record(SCENE[1], delete=False))[-1] == "0 of 1 expired"


def test_nothing_is_one_line() -> None:
    assert render(record()) == ["There is nothing in us-east-1 that carries the namespace 'ns'."]


def test_the_record_is_json_with_times_in_utc() -> None:
    east = timezone(timedelta(hours=5))
    made = record(*SCENE, now=NOW.astimezone(east), failed=["why"])
    assert json.loads(json.dumps(made)) == made
    assert (made["swept_at"], made["failed"]) == ("2026-05-01T12:00:00Z", ["why"])
    assert made["listed"][0] == {
        "kind": "TrainingJob",
        "name": "job",
        "status": "InProgress",
        "created": "2026-04-29T12:00:00Z",
        "lease_until": PAST,
        "dag": "d",
        "run": "r",
        "owner": "o",
        "sweep": True,
        "reason": "its lease has ended",
    }
    assert counts(made) == {
        "schema": 1,
        "namespace": "ns",
        "region": "us-east-1",
        "swept_at": "2026-05-01T12:00:00Z",
        "deleted": 0,
        "kept": 6,
    }
