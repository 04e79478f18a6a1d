"""Runs checkouts and packages in an Airflow of its own, and tells everything that came of them.

Reads from its input a JSON list of runs: ``name``, ``checkout`` and ``package`` (arguments of the operators), ``env``.
Writes to its output a JSON dict: by name the run's state, and what may be seen of it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any


def main() -> None:
    """Run them all."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from airflow.utils import db

    from tests.airflow_runner import Runner

    db.initdb()
    airflow = Runner(None)  # type: ignore[arg-type]  # the connection is in the environment
    json.dump({each["name"]: one(airflow, each) for each in json.load(sys.stdin)}, answer)
    answer.close()


def one(airflow: Any, each: dict[str, Any]) -> dict[str, Any]:
    """One run."""
    from airflow_sm_git import GitCheckoutOperator, PackageSourceOperator

    os.environ.update(each["env"])
    with airflow.dag(each["name"]) as dag:
        checkout = GitCheckoutOperator(task_id="checkout", **each["checkout"])
        PackageSourceOperator(task_id="package", checkout=checkout.output, **each["package"])
    run = airflow.run(dag)
    return {
        "state": run.state,
        "errors": [type(error).__name__ for error in map(ours, run.errors.values())],
        "shown": {
            "log": run.log,
            "exceptions": "\n".join(map(everything_said, run.errors.values())),
            "XComs": repr(run.xcoms()),
            **stored(run),
        },
        "package": run.xcom("package"),
    }


def ours(error: BaseException) -> BaseException:
    """The error of this package, of which Airflow's own says that there is no use in another try."""
    return error.__cause__ if type(error).__name__ == "AirflowFailException" and error.__cause__ else error


def everything_said(error: BaseException | None) -> str:
    """An exception with its causes, their attributes and tracebacks."""
    said = ["".join(traceback.format_exception(error))] if error else []
    while error is not None:
        said.append(f"{error!r} {error} {error.args!r} {vars(error)!r}")
        error = error.__cause__ or error.__context__
    return "\n".join(said)


def stored(run: Any) -> dict[str, str]:
    """The DAG and the rendered fields as Airflow stores them."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    fields = RenderedTaskInstanceFields
    with create_session() as session:
        dag = SerializedDagModel.get(run.dag.dag_id, session=session)
        rendered = session.scalars(select(fields.rendered_fields).where(fields.dag_id == run.dag.dag_id)).all()
        assert dag is not None and rendered
        return {"serialised DAG": json.dumps(dag.data), "rendered fields": json.dumps(rendered)}


if __name__ == "__main__":
    main()
