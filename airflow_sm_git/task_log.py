"""A job's lines in Airflow's task log, from a worker or a triggerer, with the times at which the job wrote them."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from airflow_sm_git.clients.job_log import Line


def show(lines: Iterable[Line]) -> None:
    """Write lines into the log of the task that runs, or that the running trigger waits for.

    They go through Airflow's own processors, its masking of secrets among them.
    """
    log = structlog.get_logger(logger_name="training_job")
    for line in lines:
        log.info(line.text, timestamp=line.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
