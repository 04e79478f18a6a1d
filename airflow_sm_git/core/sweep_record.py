"""What a sweep found and did, as a record and as lines to read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict

from airflow_sm_git.core.lease import LEASE, Verdict
from airflow_sm_git.core.records import SCHEMA


class Listed(TypedDict):
    """One resource of ours. `lease_until` and `owner` are as its tags write them; `sweep`: whether it is to go."""

    kind: str
    name: str
    status: str | None
    created: str
    lease_until: str | None
    dag: str | None
    run: str | None
    owner: str | None
    sweep: bool
    reason: str


class Sweep(TypedDict):
    """A sweep. `deleted` and `kept` are ``Kind name`` (a job is stopped), `failed` says what could not be done."""

    schema: int
    namespace: str
    region: str
    swept_at: str
    delete: bool
    listed: list[Listed]
    deleted: list[str]
    kept: list[str]
    failed: list[str]


def sweep_record(
    verdicts: Sequence[Verdict],
    *,
    namespace: str,
    region: str,
    now: datetime,
    delete: bool,
    deleted: Sequence[str] = (),
    gone: Sequence[str] = (),
    failed: Sequence[str] = (),
) -> Sweep:
    """Put a sweep's record together.

    :param verdicts: on all that is ours.
    :param delete: whether it was to delete.
    :param deleted: what it did delete or stop, as ``Kind name``.
    :param gone: what somebody else deleted meanwhile.
    """
    over = {*deleted, *gone}
    return Sweep(
        schema=SCHEMA,
        namespace=namespace,
        region=region,
        swept_at=_iso(now),
        delete=delete,
        listed=[_listed(verdict) for verdict in verdicts],
        deleted=list(deleted),
        kept=[str(verdict.seen) for verdict in verdicts if str(verdict.seen) not in over],
        failed=list(failed),
    )


def render(record: Sweep) -> list[str]:
    """A sweep as lines: one for each resource, then what was done; not what has failed."""
    where = f"in {record['region']} that carries the namespace {record['namespace']!r}"
    if not record["listed"]:
        return [f"There is nothing {where}."]
    rows = [_row(each, record) for each in record["listed"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, _summary(record)]


def _row(each: Listed, record: Sweep) -> tuple[str, ...]:
    title = f"{each['kind']} {each['name']}"
    lease = f"lease until {each['lease_until']}" if each["lease_until"] is not None else "no lease"
    run = f"dag {each['dag'] or '?'}, run {each['run'] or '?'}"
    return title, each["status"] or "", lease, run, f"{_word(title, each, record)}: {each['reason']}"


def _word(title: str, each: Listed, record: Sweep) -> str:
    if title in record["deleted"]:
        return "stopped" if each["kind"] == "TrainingJob" else "deleted"
    if each["sweep"] and not record["delete"]:
        return "expired"
    return "gone" if title not in record["kept"] else "kept"


def _summary(record: Sweep) -> str:
    if record["delete"]:
        return f"{len(record['deleted'])} deleted, {len(record['kept'])} kept"
    expired = sum(each["sweep"] for each in record["listed"])
    advice = "; nothing deleted, add --delete" if expired else ""
    return f"{expired} of {len(record['listed'])} expired{advice}"


def _listed(verdict: Verdict) -> Listed:
    seen = verdict.seen
    return Listed(
        kind=seen.kind,
        name=seen.name,
        status=seen.status or None,
        created=_iso(seen.created),
        lease_until=seen.tags.get(LEASE),
        dag=seen.tags.get("dag"),
        run=seen.tags.get("run"),
        owner=seen.tags.get("owner"),
        sweep=verdict.delete,
        reason=verdict.reason,
    )


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def counts(record: Sweep) -> dict[str, Any]:
    """A sweep in numbers, as its marker keeps them."""
    return {
        "schema": SCHEMA,
        "namespace": record["namespace"],
        "region": record["region"],
        "swept_at": record["swept_at"],
        "deleted": len(record["deleted"]),
        "kept": len(record["kept"]),
    }
