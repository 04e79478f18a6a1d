"""Wait for a training job that somebody else has submitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_git.core.names import check_name
from airflow_sm_git.core.records import TrainingJob, load
from airflow_sm_git.sensors.base import StatusSensor

if TYPE_CHECKING:
    from airflow_sm_git.triggers.base import StatusTrigger


class TrainingJobSensor(StatusSensor):
    """Wait until a training job is Completed; Failed and Stopped fail the task. Never touches the job.

    :param training_job: the job's name, or its `TrainingJob` record.
    :return: ``{"name": …, "status": "Completed"}``.
    """

    kind = "TrainingJob"
    template_fields: Sequence[str] = ("training_job", *StatusSensor.template_fields)

    def __init__(self, *, training_job: TrainingJob | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.training_job = training_job

    def target(self) -> str:
        """The job's name."""
        if isinstance(self.training_job, str) and not self.training_job.lstrip().startswith("{"):
            return check_name("training_job", self.training_job)
        return load(TrainingJob, "training_job", self.training_job)["job_name"]

    def trigger(self, **kwargs: Any) -> StatusTrigger:
        """The trigger that waits for it; a sensor's end is not the job's."""
        from airflow_sm_git.triggers.training_job import TrainingJobTrigger

        return TrainingJobTrigger(cancel_on_kill=False, **kwargs)
