"""What the operators share: connection parameters, the task instance's key, errors as Airflow takes them.

The modules of the operators import at their top only what their classes are made of, and the rest where it is used:
Airflow imports every DAG file again and again, and each file pays for what it imports (`benchmarks/dag_import.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator

from airflow_sm_git.core.errors import SmGitError
from airflow_sm_git.core.sensitive import hidden
from airflow_sm_git.operators.retries import ErrorRetryPolicy
from airflow_sm_git.operators.secrets import guarded, refuse_mapped

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_sm_git.core.names import TaskKey
    from airflow_sm_git.core.records import Package
    from airflow_sm_git.hooks.aws import AwsHook
    from airflow_sm_git.triggers.base import StatusTrigger


MAX_ERROR = 4000  # characters of an error that go into XCom


class SmGitOperator(BaseOperator):
    """Base of all operators here: a subclass writes `run` and, if it defers, `resume`."""

    _stays = False  # in the worker, because the triggerer cannot wait

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As Airflow's, but for a secret: Airflow stores a mapped operator's arguments in clear.

        :raises BadParameter: `git_config` holds a token or a password; `expand` and `expand_kwargs` raise it too.
        """
        refuse_mapped(kwargs.get("git_config"))
        return guarded(super().partial(**kwargs))

    def execute(self, context: Context) -> Any:
        """Run the step; what cannot get better by trying again fails without retry."""
        with final_errors(context, self.masked()):
            return self.run(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a wait; begin anew, and wait here, where the triggerer could not even load the trigger.

        What is waited for is found again by its name, so nothing is made a second time.
        """
        from airflow_sm_git.compat import TaskDeferralError

        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralError as error:
            self.log.warning("The triggerer could not wait, so this task does: %s", error)
            self._stays = True
            return self.execute(context)

    def secrets(self) -> list[str]:
        """Texts among the rendered parameters that nothing may show."""
        return []

    def masked(self) -> list[str]:
        """The same, which from now on no log of this process shows."""
        from airflow_sm_git.compat import mask_secret

        found = self.secrets()
        for secret in found:
            mask_secret(secret)
        return found

    def run(self, context: Context) -> Any:
        """The step itself."""
        raise TypeError(f"{type(self).__name__} does not say what it runs.")


class Connected:
    """What an operator or sensor with the Amazon provider's connection parameters can do with them."""

    aws_conn_id: str | None
    region_name: str | None
    verify: bool | str | None
    botocore_config: dict[str, Any] | None
    defer: Callable[..., NoReturn]
    log: Any
    _hook: AwsHook | None = None

    def aws(self) -> AwsHook:
        """The connection's clients: the same ones until a template has changed a parameter."""
        from airflow_sm_git.hooks.aws import AwsHook

        hook = AwsHook(**self.connection())
        if self._hook is None or hook != self._hook:
            self._hook = hook
        return self._hook

    def connection(self) -> dict[str, Any]:
        """The connection's parameters, as hook and triggers take them."""
        return {
            "aws_conn_id": self.aws_conn_id,
            "region_name": self.region_name or None,
            "verify": self.verify,
            "botocore_config": self.botocore_config,
        }

    def wait_in_triggerer(self, trigger: StatusTrigger) -> NoReturn:
        """Defer until a trigger has told; then Airflow calls ``resume``.

        Said here and not by the trigger: its lines are written on the event loop that all triggers share.
        """
        self.log.info("Waiting for %s %s until %s", trigger.kind, trigger.name, trigger.deadline)
        self.defer(trigger=trigger, method_name="resume")


class AwsOperator(Connected, SmGitOperator):
    """An operator that talks to AWS. The parameters are the Amazon provider's.

    :param aws_conn_id: connection of type ``aws``; its ``endpoint_url`` selects a local SageMaker.
    :param region_name: region, if not the connection's.
    :param verify: whether, or with which CA bundle, TLS certificates are verified.
    :param botocore_config: keyword arguments of ``botocore.config.Config``.
    """

    template_fields: Sequence[str] = ("aws_conn_id", "region_name")

    def __init__(
        self,
        *,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Airflow 3.3 has policies; `default_args` may have brought one, of which the arguments here know nothing.
        if getattr(self, "retry_policy", self) is None and "retry_policy" not in kwargs:
            self.retry_policy = ErrorRetryPolicy()
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As `SmGitOperator`'s; without a policy of the user's own the mapped tasks have ours."""
        made = super().partial(**kwargs)
        if made.kwargs.get("retry_policy", cls) is None and "retry_policy" not in kwargs:
            made.kwargs["retry_policy"] = ErrorRetryPolicy()
        return made

    def is_of_earlier_try(self, context: Context, event: Mapping[str, Any]) -> bool:
        """Whether an event was meant for an earlier try: then this one must begin anew.

        Airflow 3.0 hands it to the retry of a task that failed after it had waited (apache/airflow, issue 56704).
        """
        return bool(event["memo"].get("try", context["ti"].try_number) != context["ti"].try_number)

    def note_trouble(self, event: Mapping[str, Any]) -> None:
        """Say that the trigger could not watch. The task then waits by itself: what it waits for goes on all the same,
        and must neither be forgotten nor started a second time."""
        self._stays = bool(event["error"])
        if self._stays:
            self.log.warning("The triggerer could not wait, so this task does: %s", event["error"])

    def ownership(self, context: Context, at_least: datetime | None = None) -> dict[str, str | None]:
        """Tag values that say whose a resource is and until when it may live.

        :param at_least: a time until which it may live whatever the lease is.
        """
        from airflow_sm_git import settings

        key = task_key(context)
        until = datetime.now(UTC) + settings.lease()
        return {
            "namespace": key.namespace,
            "owner": self.owner,
            "lease-until": iso(max(until, at_least or until)),
            "dag": key.dag_id,
            "run": key.run_id,
        }


def task_key(context: Context, task_id: str | None = None, map_index: int | None = None) -> TaskKey:
    """The key of the task instance that runs, or of another one of its run."""
    key = key_of(context["ti"])
    return replace(key, task_id=task_id or key.task_id, map_index=key.map_index if map_index is None else map_index)


def key_of(ti: Any) -> TaskKey:
    """The key of a task instance."""
    from airflow_sm_git import settings
    from airflow_sm_git.core.names import TaskKey

    index = -1 if ti.map_index is None else ti.map_index
    return TaskKey(settings.get("namespace"), ti.dag_id, ti.run_id, ti.task_id, index)


def code_tags(package: Package | None) -> dict[str, str | None]:
    """Tag values that say which code a resource runs."""
    if package is None:
        return {}
    return {
        "commit": package["commit"],
        "tree": package["tree"],
        "digest": package["digest"],
        "repo": package["repo"],
        "package": package["s3_uri"],
    }


@contextmanager
def final_errors(context: Context, secrets: Sequence[str] = ()) -> Iterator[None]:
    """Let errors that cannot get better by trying again fail the task without retry.

    Each is kept under the XCom key ``error``, so that the report can say why the run failed.

    :param secrets: texts that AWS may quote and that XCom must not keep.
    """
    from airflow_sm_git.compat import AirflowFailException

    try:
        yield
    except SmGitError as error:
        said = hidden(str(error), secrets)
        context["ti"].xcom_push(key="error", value=said[:MAX_ERROR])
        if error.retryable:
            raise
        raise AirflowFailException(said) from error


def is_deferrable(deferrable: bool | None) -> bool:
    """An operator's own choice, else Airflow's ``[operators] default_deferrable``."""
    if deferrable is not None:
        return deferrable
    from airflow_sm_git import settings

    return settings.default_deferrable()


def iso(moment: datetime) -> str:
    """A time as the records write it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
