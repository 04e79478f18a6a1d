"""Resolve a ref to one commit, once per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.records import SCHEMA, Checkout
from airflow_sm_git.operators.base import AwsOperator
from airflow_sm_git.operators.package_source import PackageSourceOperator
from airflow_sm_git.operators.scope import is_kind, reached
from airflow_sm_git.operators.secrets import refuse_stored, rendered
from airflow_sm_git.operators.values import as_bool, as_list

if TYPE_CHECKING:
    from airflow.sdk import Context


class GitCheckoutOperator(AwsOperator):
    """Resolve a ref to a full SHA and keep it for the whole run.

    When the task runs again in the same run, the run's pin (the commit its package was built from) wins over the
    ref, which may have moved: clearing any task between setup and teardown also clears this one.

    :param repo: the repository's URL (https, ssh, or a scheme of the setting ``allowed_schemes``).
    :param ref: branch, tag, full or short SHA, or ``refs/…``; None for the remote's HEAD.
    :param git_conn_id: connection of type ``git``: credentials, and the URL where `repo` is not given.
    :param git_config: the SageMaker SDK's dict instead of `repo` and `ref`. Not a template field, because Airflow
        stores these in clear; it is rendered when the task runs.
    :param as_of: take the last commit on the branch at or before a time: ``"schedule"`` for the end of the run's data
        interval (manual runs take the tip), or an ISO 8601 time.
    :param paths: files or directories: take the last commit on the branch (at or before `as_of`) that changed one.
    :param repin: resolve the ref anew even if the run has a pin.
    :param aws_conn_id, region_name, verify, botocore_config: only for CodeCommit without a user name and password.
    :return: a `Checkout` record.
    """

    template_fields: Sequence[str] = (
        *("repo", "ref", "git_conn_id", "as_of", "paths", "repin"),
        *AwsOperator.template_fields,
    )

    def __init__(
        self,
        *,
        repo: str | None = None,
        ref: str | None = None,
        git_conn_id: str | None = None,
        git_config: Mapping[str, Any] | None = None,
        as_of: str | datetime | None = None,
        paths: Sequence[str] | str = (),
        repin: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.repo = repo
        self.ref = ref
        self.git_conn_id = git_conn_id
        refuse_stored(self, git_config)
        self.git_config = git_config
        self.as_of = as_of
        self.paths = paths
        self.repin = repin

    def run(self, context: Context) -> Checkout:
        """Resolve, or take the run's pin."""
        from airflow_sm_git.hooks.git import git_client, read_source

        config = rendered(self, context)
        source = read_source(self.repo, self.ref, config, self.git_conn_id, aws=self.aws)
        for note in source.notes:
            self.log.warning("%s", note)
        pin = None if as_bool("repin", self.repin) else self._pin(context)
        moment = None if pin else self._moment(context)
        paths = as_list("paths", self.paths)
        commit = git_client(source.credentials).resolve(source, as_of=moment, pinned=pin, paths=paths)
        why = "the pin of this run" if pin else f"ref {commit.ref}"
        self.log.info("%s is at %s (%s): %s", commit.repo, commit.commit, why, commit.subject)
        return cast("Checkout", {"schema": SCHEMA, **asdict(commit)})

    def _pin(self, context: Context) -> str | None:
        """The commit in an XCom of this run that outlives a clear, until the task that pushed it starts again."""
        ti = context["ti"]
        for task in _keepers(self):
            record = ti.xcom_pull(task_ids=task.task_id, map_indexes=ti.map_index)
            if record and record.get("commit"):
                return str(record["commit"])
        return None

    def _moment(self, context: Context) -> datetime | None:
        if not self.as_of:
            return None
        if self.as_of == "schedule":
            run = context["dag_run"]
            if str(getattr(run.run_type, "value", run.run_type)) == "manual":
                return None
            return run.data_interval_end or run.run_after
        if isinstance(self.as_of, datetime):
            return self.as_of
        try:
            moment = datetime.fromisoformat(self.as_of)
        except ValueError as error:
            remedy = "Write 'schedule', or a time such as 2026-01-31T00:00:00+00:00."
            raise BadParameter("as_of", self.as_of, "is not a time", remedy) from error
        if moment.tzinfo is None:
            raise BadParameter("as_of", self.as_of, "has no time zone", "Append an offset, such as +00:00.")
        return moment


def _keepers(checkout: GitCheckoutOperator) -> list[Any]:
    """The tasks whose records know a checkout's commit: its packages, then what was made of them.

    The latter count when a run is cleared again before its package has succeeded anew. They must be this checkout's
    alone, because their record speaks of one commit only.
    """
    from airflow_sm_git.operators.deploy import DeployOperator
    from airflow_sm_git.operators.train import TrainOperator

    def is_alone(task: Any) -> bool:
        before = reached(task, GitCheckoutOperator, upstream=True)
        return [each.task_id for each in before if is_kind(each, GitCheckoutOperator)] == [checkout.task_id]

    after = reached(checkout, GitCheckoutOperator, upstream=False)
    made = [task for task in after if is_kind(task, (TrainOperator, DeployOperator)) and is_alone(task)]
    return [*(task for task in after if is_kind(task, PackageSourceOperator)), *made]
