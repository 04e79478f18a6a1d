"""Wait for a training job without a worker."""

from __future__ import annotations

from typing import Any

from airflow_sm_git.triggers.base import StatusTrigger


class TrainingJobTrigger(StatusTrigger):
    """Wait until a training job has ended; parameters as `StatusTrigger`'s.

    :param cancel_on_kill: stop the job when a user kills the waiting task (Airflow 3.3; before, nothing tells).
    """

    kind = "TrainingJob"

    def __init__(self, *args: Any, cancel_on_kill: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The trigger as the database keeps it."""
        path, kwargs = super().serialize()
        return path, {**kwargs, "cancel_on_kill": self.cancel_on_kill}

    async def on_kill(self) -> None:
        """Stop the job: somebody killed the task that waits for it."""
        if not self.cancel_on_kill:
            return
        import asyncio

        from airflow_sm_git.clients.jobs import stop_job
        from airflow_sm_git.hooks.aws import AwsHook

        self.log.info("The waiting task was killed: stopping %s", self.name)
        await asyncio.to_thread(lambda: stop_job(AwsHook(**self._connection()).sagemaker(), self.name, "killed"))
