"""The one table of what each SageMaker status means.

Source: SageMaker API reference, ``TrainingJobStatus`` of DescribeTrainingJob and
``EndpointStatus`` of DescribeEndpoint.
"""

from __future__ import annotations

from enum import Enum

from airflow_sm_git.core.errors import SmGitError


class Phase(Enum):
    """What a status means for who waits."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    GONE = "gone"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self is not Phase.RUNNING


TRAINING_JOB: dict[str, Phase] = {
    "InProgress": Phase.RUNNING,
    "Stopping": Phase.RUNNING,
    "Deleting": Phase.RUNNING,
    "Completed": Phase.SUCCEEDED,
    "Failed": Phase.FAILED,
    "Stopped": Phase.STOPPED,
}

ENDPOINT: dict[str, Phase] = {
    "Creating": Phase.RUNNING,
    "Updating": Phase.RUNNING,
    "SystemUpdating": Phase.RUNNING,
    "RollingBack": Phase.RUNNING,
    "Deleting": Phase.RUNNING,
    "InService": Phase.SUCCEEDED,
    "OutOfService": Phase.FAILED,
    "Failed": Phase.FAILED,
    "UpdateRollbackFailed": Phase.FAILED,
}

# An endpoint in one of these refuses UpdateEndpoint and DeleteEndpoint.
ENDPOINT_BUSY = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack"})


def phase(table: dict[str, Phase], status: str) -> Phase:
    """Look a status up.

    :param table: `TRAINING_JOB` or `ENDPOINT`.
    :param status: the status as the API gives it.
    :raises SmGitError: the table does not know it; guessing would wait for ever or report a success that is none.
    """
    try:
        return table[status]
    except KeyError:
        raise SmGitError(
            f"SageMaker gave the status {status!r}, which this version does not know.", "Update airflow-sm-git."
        ) from None
