"""A run's record as a person reads it: the facts of one chain, or a table of many."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_FACTS = {
    "checkout": ("repo", "ref", "commit", "subject"),
    "package": ("digest", "s3_uri", "file_count"),
    "training_job": ("job_name", "status", "metrics", "billable_seconds", "model_data"),
    "endpoint": ("endpoint_name",),
    "prediction": ("content_type", "body", "s3_uri"),
    "teardown": ("deleted", "kept"),
}
_UNMAPPED = "-1"


def render(report: Mapping[str, Any]) -> str:
    """Write a report out.

    :param report: what `ReportOperator` returns.
    :return: several lines: how the run and its tasks ended; the facts of a single chain, or a table with a line for
        each index of a mapped one; what is kept.
    """
    mapped = [index for index in report["indexes"] if index != _UNMAPPED]
    lines = [f"Run {report['run_id']} of {report['dag_id']}: {'succeeded' if report['succeeded'] else 'FAILED'}"]
    # Of a mapped run's many tasks only those are told that the table does not speak for.
    shown = {task: state for task, state in report["tasks"].items() if not (mapped and _is_mapped(task))}
    lines += [f"  {state or 'none':<16} {task}" for task, state in shown.items()]
    if mapped:
        lines += ["", *(f"  {line}" for line in _table(report, sorted(mapped, key=int))), ""]
    elif records := report["indexes"].get(_UNMAPPED):
        lines += ["  -- run --", *(f"  {line}" for item in records.items() for line in _facts(*item))]
    return "\n".join(lines + [f"  {sentence}" for sentence in kept_sentences(report)])


def kept_sentences(report: Mapping[str, Any]) -> list[str]:
    """One sentence for each teardown that kept something: what, until when, and how to remove it."""
    teardowns = [records.get("teardown") for records in report["indexes"].values()]
    return [
        f"Kept until {each['lease_until']}: {', '.join(each['kept'])}. Remove it with:\n    {each['remove_command']}"
        for each in teardowns
        if each and each["kept"]
    ]


def _table(report: Mapping[str, Any], indexes: Sequence[str]) -> list[str]:
    """Index, commit, subject, how it ended, every metric of any index, and whether its endpoint is gone."""
    records = [report["indexes"][index] for index in indexes]
    metrics = sorted({name for each in records for name in _metrics(each)})
    rows = [["index", "commit", "subject", "status", *metrics, "endpoint"]]
    for index, each in zip(indexes, records, strict=True):
        checkout = each.get("checkout", {})
        values = [f"{_metrics(each)[name]:g}" if name in _metrics(each) else "" for name in metrics]
        status = _status(report["tasks"], index)
        subject = _short(checkout.get("subject", ""), 40)
        rows.append([index, checkout.get("commit", "")[:12], subject, status, *values, _endpoint(each)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _metrics(records: Mapping[str, Any]) -> dict[str, float]:
    return dict(records.get("training_job", {}).get("metrics") or {})


def _status(tasks: Mapping[str, str | None], index: str) -> str:
    """``success``, or which steps of an index were the first to go wrong."""
    states = {name.removesuffix(f"[{index}]"): state for name, state in tasks.items() if name.endswith(f"[{index}]")}
    bad = {name: state for name, state in states.items() if state not in ("success", "skipped")}
    first = {name: state for name, state in bad.items() if state != "upstream_failed"} or bad
    return ", ".join(f"{name.rpartition('.')[2]} {state}" for name, state in first.items()) or "success"


def _endpoint(records: Mapping[str, Any]) -> str:
    teardown = records.get("teardown") or {}
    if teardown.get("kept"):
        return "kept"
    if any(name.startswith("Endpoint ") for name in teardown.get("deleted", [])):
        return "deleted"
    if "endpoint" in records:
        return "gone already" if teardown else "NOT deleted"
    return "none"


def _is_mapped(task: str) -> bool:
    return task.endswith("]")


def _facts(section: str, record: Mapping[str, Any]) -> list[str]:
    # A second package, job or endpoint of one run stands under its task's name.
    wanted = _FACTS.get(section) or [key for key in record if key != "schema"]
    facts = {key: record.get(key) for key in wanted if record.get(key)}
    return [f"{section}.{key}: {_short(value)}" for key, value in facts.items()]


def _short(value: Any, limit: int = 300) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
