"""Run one DAG through Airflow's own ``dags test``, with the database made first if need be.

A program of its own (``python -m airflow_sm_git.demo.airflow_run DAG_ID CONF``), so that Airflow, which takes its
configuration when it is imported, sees the demo's environment; in one process, so that it is imported once.
"""

from __future__ import annotations

import sys


def main(argv: list[str]) -> None:
    """:param argv: the DAG's id, and its run's conf as JSON."""
    dag_id, conf = argv
    from airflow.utils.db import initdb

    initdb()  # type: ignore[no-untyped-call, unused-ignore]
    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", "dags", "test", dag_id, "--conf", conf]
    airflow()


if __name__ == "__main__":
    main(sys.argv[1:])
