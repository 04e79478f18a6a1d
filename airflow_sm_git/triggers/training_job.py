"""Wait for a training job without a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_sm_git import task_state
from airflow_sm_git.clients.threads import READING, in_thread, to_the_end
from airflow_sm_git.core.errors import SmGitError
from airflow_sm_git.core.sensitive import sensitive_values
from airflow_sm_git.triggers.base import StatusTrigger

if TYPE_CHECKING:
    from airflow_sm_git.clients.job_log import Position

LEAST_SECONDS = 1.0  # between two looks at one job's log
STOP_SECONDS = 60.0  # for Airflow's answer, whose database may be busy, and for the stop


class TrainingJobTrigger(StatusTrigger):
    """Wait until a training job has ended; parameters as `StatusTrigger`'s.

    :param cancel_on_kill: stop the job when somebody ends the waiting task: marks it or its run, deletes the run, or
        lets the run time out.
    :param print_log: print the job's log meanwhile; the event's memo tells under ``log`` how far
        (`clients.job_log.Position`).
    :param has_secrets: the job was given secrets, which the log must not show: ask for them.
    """

    kind = "TrainingJob"

    def __init__(
        self,
        *args: Any,
        cancel_on_kill: bool = True,
        print_log: bool = False,
        has_secrets: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.cancel_on_kill = cancel_on_kill
        self.print_log = print_log
        self.has_secrets = has_secrets
        self._position: Position | None = self.memo.get("log")
        self._answered = False
        self._follower: asyncio.Task[None] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The trigger as the database keeps it."""
        path, kwargs = super().serialize()
        own = {"cancel_on_kill": self.cancel_on_kill, "print_log": self.print_log, "has_secrets": self.has_secrets}
        return path, {**kwargs, **own}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then tell once; when cancelled, see whether the job still has somebody who wants it.

        Before Airflow 3.3 this is the only word of a cancelled wait that a trigger gets.
        """
        self._follower = asyncio.create_task(self._follow()) if self.print_log else None
        try:
            async for event in super().run():
                yield event
        except asyncio.CancelledError:
            if self.task_instance is not None:  # Airflow 3.0 cancels again and again until the trigger has ended
                await to_the_end(self.on_kill(), STOP_SECONDS)
            raise
        finally:
            if self._follower is not None:
                self._follower.cancel()

    async def told(self) -> dict[str, Any]:
        """The memo, with how far the log has been printed; from then on no more of it is."""
        if self._follower is None:
            return self.memo
        self._follower.cancel()  # breaks off no question to Airflow: all are asked `in_thread`
        await asyncio.wait({self._follower})
        return {**self.memo, "log": self._position}

    async def _follow(self) -> None:
        """Print the job's log as it grows. The task that resumes prints the rest."""
        from airflow_sm_git.clients.job_log import beginning, is_full, shared_reader
        from airflow_sm_git.task_log import show

        reader = shared_reader(repr(sorted(self._connection().items())), self._logs)
        hidden = not self.has_secrets
        while True:
            try:
                hidden = hidden or await self._hide()
                lines, position = await reader.read(self.name, self._position or beginning())
            except SmGitError as error:
                if not error.retryable:
                    self.log.warning("The log of %s cannot be read while it runs: %s", self.name, error)
                    return
            else:
                show(lines)
                self._position = position
                if is_full(position):
                    return
            await asyncio.sleep(max(self.check_interval, LEAST_SECONDS))

    async def _hide(self) -> bool:
        """Let no log show what the job was given in secret."""
        from airflow_sm_git.compat import mask_secret
        from airflow_sm_git.hooks.aws import AwsHook

        def hide() -> None:
            job = AwsHook(**self._connection()).sagemaker().describe("TrainingJob", self.name) or {}
            for secret in sensitive_values(job.get("Environment"), job.get("HyperParameters")):
                mask_secret(secret)

        await in_thread(hide, READING)
        return True

    def _logs(self) -> Any:
        from airflow_sm_git.hooks.aws import AwsHook

        return AwsHook(**self._connection()).logs()

    async def on_kill(self) -> None:
        """Stop the job, if nobody waits for it any more.

        Airflow cancels a trigger too when it moves it to another triggerer or shuts down: then the task is still
        deferred, or Airflow does not answer. And when the task is cleared: then its next try takes the job over, or
        stops it. In all of these the job is left alone.
        """
        if not self.cancel_on_kill or self._answered:
            return
        try:
            state = await self._state()
        except Exception as error:  # whatever it is: without an answer nothing is stopped
            self.log.warning("Airflow does not say what became of the task, so %s runs on: %r", self.name, error)
            return
        if state not in task_state.OVER:
            self._answered = True
            self.log.info("The wait for %s has ended, the task is %s: the job runs on", self.name, state)
            return
        self.log.info("The task is %s, so nobody waits for %s any more: stopping it", state, self.name)
        self._answered = await self._stop()

    async def _stop(self) -> bool:
        """Stop the job, again and again while that may help; whether it is stopped."""
        from airflow_sm_git.clients.jobs import stop_job
        from airflow_sm_git.hooks.aws import AwsHook

        clock, pause = asyncio.get_running_loop().time, LEAST_SECONDS
        deadline = clock() + STOP_SECONDS
        while True:
            try:
                await in_thread(lambda: stop_job(AwsHook(**self._connection()).sagemaker(), self.name, "killed"))
                return True
            except Exception as error:  # whatever it is: a job that nobody stops must be named
                again = getattr(error, "retryable", True) and clock() + pause < deadline
                then = "stopping it is tried again" if again else "stop it in the console, or by airflow-sm-git sweep"
                self.log.error("Training job %s may still run, so %s: %s", self.name, then, error)
                if not again:
                    return False
            await asyncio.sleep(pause)
            pause *= 2

    async def _state(self) -> str | None:
        """The task instance's state as Airflow has it now; ``deleted`` if there is none."""
        ti = self.task_instance
        if ti is None:
            return "deleted"
        # From the event loop: a triggerer whose loop waits for a thread that waits for its loop would not answer.
        from airflow.sdk.execution_time import task_runner

        return task_state.state_in(await task_runner.SUPERVISOR_COMMS.asend(task_state.question(ti)), ti)
