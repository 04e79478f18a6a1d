"""Runs DAGs in this process as ``DAG.test`` does, and lets a test look at everything that came of it.

Unlike ``DAG.test`` it takes a DAG from where a test writes it, keeps a run so that tasks of it can be cleared and run
again, and hands out the tasks' exceptions.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from pydoc import locate
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker

if TYPE_CHECKING:
    from airflow.sdk import DAG

BUNDLE = "dags-folder"
IDLE_SECONDS = 20.0


@dataclass
class Run:
    """One run of a DAG, so far.

    :param states: how each task instance stands, by label (``task`` or ``task[map index]``).
    :param errors: the exception of each task whose last try raised.
    :param lines: what all tasks logged.
    :param deferrals: labels of the tasks that waited in a trigger, once for each time.
    :param ran: labels of the tasks that the last step ran.
    """

    dag: DAG
    run_id: str
    state: str = "running"
    states: dict[str, str | None] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    deferrals: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        """What all tasks logged."""
        return "\n".join(self.lines)

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """A value that a task pushed, or None."""
        return self.xcoms().get((task_id, map_index), {}).get(key)

    def xcoms(self) -> dict[tuple[str, int], dict[str, Any]]:
        """All values of the run, by task and map index."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        found: dict[tuple[str, int], dict[str, Any]] = {}
        with create_session() as session:
            query = select(XComModel).where(XComModel.dag_id == self.dag.dag_id, XComModel.run_id == self.run_id)
            for row in session.scalars(query):
                value = XComModel.deserialize_value(row)
                found.setdefault((row.task_id, row.map_index), {})[row.key] = value
        return found


@dataclass
class Runner:
    """An Airflow with an empty database, connected with a local SageMaker.

    :param sagemaker: the server that the connection ``aws_default`` leads to.
    """

    sagemaker: LocalSageMaker

    def dag(self, dag_id: str | None = None, **options: Any) -> DAG:
        """A new DAG, to be used in a ``with`` statement."""
        from airflow.sdk import DAG

        return DAG(dag_id or f"test_{uuid.uuid4().hex[:8]}", schedule=None, **options)

    def load(self, path: Path, dag_id: str) -> DAG:
        """A DAG of a file."""
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(path)
        assert not bag.import_errors, bag.import_errors
        return bag.dags[dag_id]

    def run(self, dag: DAG, conf: dict[str, Any] | None = None, **dates: Any) -> Run:
        """Run a DAG to its end.

        :param dates: further fields of the DAG run, such as ``run_type`` and ``data_interval``.
        """
        return self.go_on(self.create(dag, conf, **dates))

    def create(self, dag: DAG, conf: dict[str, Any] | None = None, **dates: Any) -> Run:
        """Create a run of a DAG without running any task yet."""
        from airflow.utils.session import create_session
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        now = datetime.now(UTC)
        dates = {"logical_date": now, "run_after": now, "run_type": DagRunType.MANUAL, **dates}
        run_id = f"{dates['run_type'].value}__{dates['logical_date'].isoformat()}"
        _write(dag)
        with create_session() as session:
            _scheduler_dag(dag).create_dagrun(
                run_id=run_id,
                conf=conf,
                state=DagRunState.RUNNING,
                triggered_by=DagRunTriggeredByType.TEST,
                start_date=now,
                session=session,
                **dates,
            )
        return Run(dag, run_id)

    def clear(self, run: Run, *task_ids: str) -> Run:
        """Clear tasks of a run as the user interface does; what Airflow adds to them is cleared too."""
        from airflow.utils.session import create_session
        from airflow.utils.state import DagRunState

        with create_session() as session:
            partial = _scheduler_dag(run.dag).partial_subset(task_ids=set(task_ids), include_downstream=True)
            partial.clear(run_id=run.run_id, dag_run_state=DagRunState.RUNNING, session=session)
        return run

    def mark_failed(self, run: Run) -> None:
        """Mark a run failed as the user interface does."""
        from airflow.api.common.mark_tasks import set_dag_run_state_to_failed

        set_dag_run_state_to_failed(dag=_scheduler_dag(run.dag), run_id=run.run_id, commit=True)

    def set_state(self, dag: DAG, task_id: str, state: str | None) -> None:
        """Let the database say of the task instances of a task how they stand, as somebody who marks them does."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import update

        where = (TaskInstance.dag_id == dag.dag_id, TaskInstance.task_id == task_id)
        with create_session() as session:
            session.execute(update(TaskInstance).where(*where).values(state=state))

    def go_on(self, run: Run) -> Run:
        """Run every task that can run, until the run has ended."""
        idle = 0.0
        while self.step(run) == "running" and idle < IDLE_SECONDS:
            if not run.ran:
                idle += 0.02
                time.sleep(0.02)
        assert run.state in ("success", "failed"), f"the run does not end: {run.states}"
        return run

    def step(self, run: Run) -> str:
        """Run the tasks that can run now, each once; the run's state then."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import select

        query = select(DagRun).where(DagRun.dag_id == run.dag.dag_id, DagRun.run_id == run.run_id)
        with _environment(), _captured(run.lines), create_session() as session:
            dag_run = session.scalars(query).one()
            dag_run.dag = _scheduler_dag(run.dag)
            scheduled = _schedule(dag_run, session)
            run.ran = [_label(ti) for ti in scheduled]
            for ti in scheduled:
                self._run_task(run, ti)
            session.expire_all()
            instances = dag_run.get_task_instances(session=session)
            run.state = str(dag_run.state)
            run.states = {_label(ti): str(ti.state) if ti.state else None for ti in instances}
        return run.state

    def killed(self, run: Run) -> int:
        """Go on with a run in a process of its own, as its worker does; the process's exit status, -9 if it was killed.

        Afterwards the tasks that ran there are up for retry, as the scheduler has it for tasks without a worker.
        """
        _execution_api()
        pid = os.fork()
        if pid == 0:
            _in_the_worker(lambda: self.go_on(run))
        _, status = os.waitpid(pid, 0)
        _lost_tasks_are_up_for_retry(run)
        return os.waitstatus_to_exitcode(status)

    def links(self, run: Run, task_id: str) -> dict[str, str]:
        """What the user interface shows as the links of a task."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select

        where = (TaskInstance.dag_id == run.dag.dag_id, TaskInstance.run_id == run.run_id)
        task = _scheduler_dag(run.dag).get_task(task_id)
        with create_session() as session:
            ti = session.scalars(select(TaskInstance).where(*where, TaskInstance.task_id == task_id)).one()
            return {name: task.get_extra_links(ti, name) for name in task.extra_links}

    def _run_task(self, run: Run, ti: Any) -> None:
        """One try of a task instance, with the triggers that it waits for."""
        from airflow.sdk.execution_time.comms import DeferTask

        label = _label(ti)
        run.errors.pop(label, None)
        while True:
            ti.set_state("queued")
            sdk_ti = _sdk_instance(ti)
            with _restored_signal():
                result = _in_process(sdk_ti, run.dag.task_dict[ti.task_id])
            ti.set_state(result.ti.state)
            if result.error is not None:
                run.errors[label] = result.error
            if not isinstance(result.msg, DeferTask):
                return
            run.deferrals.append(label)
            _resume(ti, sdk_ti, result.msg)


def _in_the_worker(work: Callable[[], object]) -> NoReturn:
    """What a forked process does: nothing of its parent's threads and connections is there, and nothing is left."""
    from airflow import settings
    from airflow.sdk.execution_time import supervisor

    code = 1
    try:
        parents = supervisor.in_process_api_server()
        own = type(parents)()
        own._app = parents.app  # takes seconds to build; what serves it is a thread, which is the parent's
        supervisor.in_process_api_server = lambda: own
        settings.engine.dispose(close=False)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _execution_api() -> None:
    """Build what takes seconds to build, so that processes that are forked from this one have it."""
    from airflow.sdk.execution_time import supervisor

    _ = supervisor.in_process_api_server().app


def _lost_tasks_are_up_for_retry(run: Run) -> None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    where = (TaskInstance.dag_id == run.dag.dag_id, TaskInstance.run_id == run.run_id)
    with create_session() as session:
        for ti in session.scalars(select(TaskInstance).where(*where)):
            if str(ti.state) in ("queued", "running", "scheduled"):
                ti.state, ti.end_date = "up_for_retry", datetime.now(UTC)


def _in_process(sdk_ti: Any, task: Any) -> Any:
    from airflow.sdk.execution_time.supervisor import run_task_in_process

    return run_task_in_process(ti=sdk_ti, task=task)


def _sdk_instance(ti: Any) -> Any:
    from airflow.sdk.api.datamodels._generated import TaskInstance

    return TaskInstance(
        id=ti.id,
        task_id=ti.task_id,
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        try_number=ti.try_number,
        map_index=ti.map_index,
        dag_version_id=ti.dag_version_id,
    )


def _resume(ti: Any, sdk_ti: Any, deferral: Any) -> None:
    """Run the trigger as a triggerer would: from its serialised form; then let the task go on.

    A trigger that a triggerer has no class for resumes the task too, with what Airflow says of that.
    """
    from airflow.models.trigger import TRIGGER_FAIL_REPR, TriggerFailureReason
    from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor
    from airflow.sdk.serde import deserialize, serialize
    from airflow.utils.session import create_session

    ti.set_state("queued")
    kind: Any = locate(deferral.classpath)
    if kind is None:
        ti.next_method = TRIGGER_FAIL_REPR
        ti.next_kwargs = serialize(
            {"error": TriggerFailureReason.TRIGGER_FAILURE.value, "traceback": ["No such module"]}
        )
    else:
        trigger = kind(**deserialize(deferral.trigger_kwargs))
        event = InProcessTestSupervisor.run_trigger_in_process(trigger=trigger, ti=sdk_ti)
        ti.next_method = deferral.next_method
        ti.next_kwargs = serialize({**deserialize(deferral.next_kwargs or {}), "event": event.payload})
    with create_session() as session:
        session.merge(ti)


def _write(dag: DAG) -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    if not dag.relative_fileloc:
        dag.relative_fileloc = f"{dag.dag_id}.py"
    with create_session() as session:
        DagBundlesManager().sync_bundles_to_db(session=session)
        session.commit()
        lazy = LazyDeserializedDAG.from_dag(dag)
        update_dag_parsing_results_in_db(BUNDLE, None, [lazy], {}, None, set(), session)


def _scheduler_dag(dag: DAG) -> Any:
    from airflow.models.serialized_dag import SerializedDagModel

    model = SerializedDagModel.get(dag.dag_id)
    assert model is not None
    return model.dag


def _schedule(dag_run: Any, session: Any) -> list[Any]:
    """Let the scheduler decide what may run now."""
    schedulable, _ = dag_run.update_state(session=session)
    for ti in schedulable:
        if str(ti.state) != "up_for_reschedule":
            ti.try_number += 1
        ti.state = "scheduled"
        ti.scheduled_dttm = datetime.now(UTC)
    session.commit()
    return [ti for ti in dag_run.get_task_instances(session=session) if str(ti.state) == "scheduled"]


def _label(ti: Any) -> str:
    return str(ti.task_id) if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"


@contextmanager
def _environment() -> Iterator[None]:
    """Airflow leaves variables of the task that ran; the next test must not see them."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _restored_signal() -> Iterator[None]:
    """Airflow's runner leaves its handler of SIGTERM, which would then kill a task that has ended."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _captured(lines: list[str]) -> Iterator[None]:
    """Keep what is logged, in structlog's way and in the standard library's, before any secret is masked."""
    import structlog

    def keep(_logger: Any, _method: str, line: Any) -> Any:
        lines.append(str(line))
        return line

    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    processors = structlog.get_config()["processors"]  # the list that all loggers share
    processors.append(keep)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        processors.remove(keep)


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """The database in the Airflow home of the session."""
    from airflow.utils import db

    db.initdb()


@pytest.fixture
def airflow(
    airflow_database: None,
    local_sagemaker: LocalSageMaker,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Runner:
    """An Airflow of the session, connected with the local SageMaker, which may read ``file://`` repositories."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", local_sagemaker.env["AIRFLOW_CONN_AWS_DEFAULT"])
    monkeypatch.setenv("AIRFLOW__SM_GIT__ALLOWED_SCHEMES", "file")
    monkeypatch.setenv("AIRFLOW__SM_GIT__CACHE_DIR", str(tmp_path_factory.getbasetemp() / "git-cache"))
    return Runner(local_sagemaker)
