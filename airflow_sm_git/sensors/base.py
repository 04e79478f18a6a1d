"""What the two sensors share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_sm_git.core.errors import SmGitError
from airflow_sm_git.core.status import Phase
from airflow_sm_git.operators.base import Connected, final_errors, is_deferrable, iso
from airflow_sm_git.operators.values import seconds

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_sm_git.triggers.base import StatusTrigger


class StatusSensor(Connected, BaseSensorOperator):
    """Wait until a resource has ended well; fail when it has ended otherwise.

    :param aws_conn_id, region_name, verify, botocore_config: as the Amazon provider's.
    :param check_interval: how often to look; None for `poke_interval`.
    :param deferrable: wait in the triggerer; None for Airflow's ``[operators] default_deferrable``.
    """

    kind: ClassVar[str]
    template_fields: Sequence[str] = ("aws_conn_id", "region_name")

    def __init__(
        self,
        *,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        check_interval: float | timedelta | None = None,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if check_interval is not None:
            kwargs["poke_interval"] = check_interval
        super().__init__(**kwargs)
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self.check_interval = check_interval
        self.deferrable = deferrable

    def target(self) -> str:
        """The name of what is waited for."""
        raise TypeError(f"{type(self).__name__} does not say what it waits for.")

    def trigger(self, **kwargs: Any) -> StatusTrigger:
        """The trigger that waits for it."""
        raise TypeError(f"{type(self).__name__} has no trigger.")

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        with final_errors(context):
            return self._look()

    def execute(self, context: Context) -> Any:
        """Wait, here or deferred."""
        from airflow_sm_git.compat import AirflowFailException, AirflowSkipException

        if not is_deferrable(self.deferrable):
            return super().execute(context)
        try:
            found = self.poke(context)
        except Exception as error:  # as Airflow's sensors do in a worker
            if self.never_fail or (self.soft_fail and isinstance(error, AirflowFailException)):
                raise AirflowSkipException(str(error)) from error
            raise
        if found.is_done:
            return found.xcom_value
        self._defer(self._deadline(datetime.now(UTC)))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a wait; wait here, where the triggerer could not even load the trigger."""
        from airflow_sm_git.compat import AirflowSkipException, TaskDeferralError

        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, AirflowSkipException) as error:
            cause = error.__cause__ if isinstance(error, AirflowSkipException) else error  # it is so under soft_fail
            if not isinstance(cause, TaskDeferralError):
                raise
            # The memo is lost. Newer Airflow's start_date is the time before the wait; that of 3.0 is now.
            memo = {"deadline": self._deadline(context["ti"].start_date)}
            event = {"phase": Phase.RUNNING.value, "error": str(cause), "memo": memo}
        return super().resume_execution("resume", {"event": event}, context)

    def resume(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on when the trigger has told; wait here if it could not wait."""
        deadline = event["memo"]["deadline"]
        with final_errors(context):
            if event["error"]:
                self.log.warning("The triggerer could not wait, so this task does: %s", event["error"])
            is_late = self._ended(event, deadline) is Phase.RUNNING
            found = self._last_look() if is_late else self._look()
            if found.is_done:
                return found.xcom_value
            if is_late:
                from airflow_sm_git.compat import AirflowSensorTimeout

                raise AirflowSensorTimeout(f"{self.kind} {self.target()!r} had not ended within {self.timeout} s.")
            self._defer(deadline)  # it has changed again since

    def _last_look(self) -> PokeReturnValue:
        """Look though time is up, as the triggerer may have been away; without an answer it stays so."""
        try:
            return self._look()
        except SmGitError as error:
            if not error.retryable:
                raise
            self.log.warning("Whether it has ended meanwhile cannot be told: %s", error)
            return PokeReturnValue(is_done=False)

    def _ended(self, event: dict[str, Any], deadline: str) -> Phase:
        """How the wait has ended, or ends here if the trigger could not wait."""
        if not event["error"]:
            return Phase(event["phase"])
        client, interval = self.aws().sagemaker(), seconds("poke_interval", self.poke_interval)
        until = datetime.fromisoformat(deadline).timestamp()
        return client.wait(self.kind, self.target(), check_interval=interval, deadline=until)[1]

    def _deadline(self, start: datetime) -> str:
        return iso(start + timedelta(seconds=seconds("timeout", self.timeout)))

    def _defer(self, deadline: str) -> None:
        trigger = self.trigger(
            name=self.target(),
            since=iso(datetime.now(UTC)),
            deadline=deadline,
            check_interval=seconds("poke_interval", self.poke_interval),
            memo={"deadline": deadline},
            **self.connection(),
        )
        self.wait_in_triggerer(trigger)

    def _look(self) -> PokeReturnValue:
        from airflow_sm_git.clients.sagemaker import status_phase

        name = self.target()
        answer = self.aws().sagemaker().call(f"Describe{self.kind}", **{f"{self.kind}Name": name})
        status = answer[f"{self.kind}Status"]
        phase = status_phase(self.kind, status)
        self.log.info("%s %s is %s", self.kind, name, status)
        if phase.ended and phase is not Phase.SUCCEEDED:
            reason = answer.get("FailureReason") or "no reason was given"
            raise SmGitError(f"{self.kind} {name!r} is {status}: {reason}")
        return PokeReturnValue(is_done=phase is Phase.SUCCEEDED, xcom_value={"name": name, "status": status})
