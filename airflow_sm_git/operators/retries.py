"""When a failed task is tried again: as its errors say, on Airflows that ask."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_sm_git.compat import RetryPolicy
from airflow_sm_git.core.errors import SmGitError

if TYPE_CHECKING:
    from airflow.sdk import Context


class ErrorRetryPolicy(RetryPolicy):  # type: ignore[misc, valid-type, unused-ignore]  # a plain class before Airflow 3.3
    """Waits before a retry as long as the error asks for: capacity and quotas are not there again at once.

    A task with a ``retry_delay`` of its own keeps that. Errors that no retry can help never come here: the operators
    fail at once with them, on every Airflow.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> Any:
        """Airflow's question; see `airflow.sdk.RetryPolicy`."""
        from airflow.sdk import RetryDecision

        if not isinstance(exception, SmGitError) or exception.retry_after is None or _has_own_delay(context):
            return RetryDecision.default()
        return RetryDecision.retry(timedelta(seconds=exception.retry_after), type(exception).__name__)

    def serialize(self) -> dict[str, Any]:
        """Nothing: it has no parameters."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ErrorRetryPolicy:
        """As it was."""
        return cls()


def _has_own_delay(context: Context | None) -> bool:
    from airflow.sdk import BaseOperator

    task = context.get("task") if context else None
    return task is not None and task.retry_delay != BaseOperator.retry_delay
