"""Run one DAG through Airflow's own ``dags test``, with the database made first if need be.

A program of its own (``python -m airflow_sm_git.demo.airflow_run DAG_ID CONF``), so that Airflow, which takes its
configuration when it is imported, sees the demo's environment; in one process, so that it is imported once.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path


def main(argv: list[str]) -> None:
    """Run it.

    :param argv: the DAG's id, and its run's conf as JSON.
    """
    dag_id, conf = argv
    _make_database(Path(os.environ["AIRFLOW_HOME"]) / "database-version")
    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", "dags", "test", dag_id, "--conf", conf]
    try:
        airflow()
    except Exception as error:  # such as a Param that its schema refuses: no task ever hears of it
        from airflow_sm_git.demo.progress import tell

        tell("airflow", "failed", error)
        raise


def _make_database(mark: Path) -> None:
    """Make the database, or bring it up to date; that takes seconds, so not where this Airflow has done it already."""
    newest = version("apache-airflow")
    if mark.exists() and mark.read_text() == newest:
        return
    from airflow.utils.db import initdb

    initdb()  # type: ignore[no-untyped-call, unused-ignore]
    mark.write_text(newest)


if __name__ == "__main__":
    main(sys.argv[1:])
