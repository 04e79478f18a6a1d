"""Wait for a training job without a worker."""

from __future__ import annotations

import asyncio
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
        """Stop the job, if somebody killed the task that waits for it.

        Airflow says so too when it moves the trigger to another triggerer: then the task is still deferred, and the job
        is left alone.
        """
        if not self.cancel_on_kill or await self._still_deferred():
            return
        from airflow_sm_git.clients.jobs import stop_job
        from airflow_sm_git.hooks.aws import AwsHook

        self.log.info("The waiting task was killed: stopping %s", self.name)
        await asyncio.to_thread(lambda: stop_job(AwsHook(**self._connection()).sagemaker(), self.name, "killed"))

    async def _still_deferred(self) -> bool:
        ti = self.task_instance
        if ti is None:
            return False
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
        from asgiref.sync import sync_to_async

        answer = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
        name = ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
        state = answer.get(ti.run_id, {}).get(name)
        return str(getattr(state, "value", state)) == "deferred"
