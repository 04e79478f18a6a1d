from __future__ import annotations

from itertools import takewhile
from typing import Any

from airflow_sm_git.core.report import render


def chain(index: int, *, perplexity: float | None = 50.0, endpoint: bool = True, **teardown: Any) -> dict[str, Any]:
    """The records of one index."""
    name = f"e{index}"
    job = {"training_job": {"job_name": f"j{index}", "metrics": {"perplexity": perplexity}}} if perplexity else {}
    deleted = [f"Endpoint {name}", f"Model m{index}"] if endpoint else []
    return {
        "checkout": {"commit": f"{index}" * 40, "subject": f"version {index}"},
        **job,
        **({"endpoint": {"endpoint_name": name}} if endpoint else {}),
        "teardown": {"deleted": deleted, "kept": [], "lease_until": None, "remove_command": None, **teardown},
    }


def report(indexes: dict[str, dict[str, Any]], tasks: dict[str, str | None], succeeded: bool = True) -> dict[str, Any]:
    return {"schema": 1, "dag_id": "d", "run_id": "r", "succeeded": succeeded, "tasks": tasks, "indexes": indexes}


def table(text: str) -> list[list[str]]:
    """The cells of the table in a rendered report."""
    lines = [line.strip() for line in text.splitlines()]
    start = next(number for number, line in enumerate(lines) if line.startswith("index"))
    rows = takewhile(bool, lines[start:])
    return [[cell.strip() for cell in row.split("  ") if cell] for row in rows]


def test_a_mapped_run_is_a_table_of_metric_by_commit() -> None:
    text = render(
        report(
            {"-1": {}, "0": chain(0), "1": chain(1, perplexity=33.25)},
            {"commits": "success", "c.train[0]": "success", "c.train[1]": "success"},
        )
    )

    assert table(text) == [
        ["index", "commit", "subject", "status", "perplexity", "endpoint"],
        ["0", "0" * 12, "version 0", "success", "50", "deleted"],
        ["1", "1" * 12, "version 1", "success", "33.25", "deleted"],
    ]
    assert "success          commits" in text
    assert "train[0]" not in text


def test_a_failed_index_names_the_step_that_failed_and_not_those_that_then_could_not_run() -> None:
    tasks: dict[str, str | None] = {
        "c.train[0]": "failed",
        "c.deploy[0]": "upstream_failed",
        "c.teardown[0]": "success",
        "c.train[1]": "success",
    }
    text = render(report({"0": chain(0, perplexity=None, endpoint=False), "1": chain(1)}, tasks, succeeded=False))

    first, second = table(text)[1:]
    assert "FAILED" in text.splitlines()[0]
    assert first == ["0", "0" * 12, "version 0", "train failed", "none"]
    assert second[3] == "success"


def test_a_table_stays_in_the_order_of_the_indexes() -> None:
    indexes = {str(index): chain(index) for index in (10, 9, 1)}

    assert [row[0] for row in table(render(report(indexes, {})))[1:]] == ["1", "9", "10"]


def test_an_endpoint_that_is_still_there_is_never_called_deleted() -> None:
    kept = chain(0, deleted=[], kept=["e0"], lease_until="tomorrow", remove_command="remove e0")
    failed = chain(1)
    del failed["teardown"]

    text = render(report({"0": kept, "1": failed}, {"c.teardown[1]": "failed"}, succeeded=False))

    assert [row[-1] for row in table(text)[1:]] == ["kept", "NOT deleted"]
    assert "Kept until tomorrow: e0. Remove it with:\n    remove e0" in text


def test_a_single_chain_is_a_list_of_facts() -> None:
    text = render(report({"-1": chain(7)}, {"train": "success"}))

    assert f"checkout.commit: {'7' * 40}" in text
    assert 'training_job.metrics: {"perplexity": 50.0}' in text
    assert "index" not in text
