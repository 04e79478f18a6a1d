"""Why a training job failed: one table from what SageMaker says to the error, and to what can be done about it.

Sources: SageMaker API reference, ``FailureReason`` and ``SecondaryStatus`` of DescribeTrainingJob; the texts are AWS's
own, as quoted in public issues (sagemaker-python-sdk 35, 57, 1968; grand-challenge 2631).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from airflow_sm_git.core import errors


class _Cause(NamedTuple):
    pattern: re.Pattern[str]
    error: type[errors.TrainingFailed]
    remedy: str


def _cause(pattern: str, error: type[errors.TrainingFailed], remedy: str) -> _Cause:
    return _Cause(re.compile(pattern, re.IGNORECASE | re.DOTALL), error, remedy)


# The first that fits counts.
_CAUSES = (
    _cause(
        r"^CapacityError|insufficient capacity|unable to provision requested ML compute",
        errors.OutOfCapacity,
        "Try again later, or give another instance_type; max_pending makes SageMaker itself wait.",
    ),
    _cause(
        r"\bspot\b.*interrupt|interrupt.*\bspot\b",
        errors.SpotInterrupted,
        "Try again; checkpoint_s3_uri lets the script go on where it was, max_wait gives it more time.",
    ),
    _cause(
        r"unable to assume the role|ensure that the role|trust relationship",
        errors.RoleDenied,
        "Let sagemaker.amazonaws.com assume the role: its trust policy must allow sts:AssumeRole.",
    ),
    _cause(
        r"cannot pull|CannotPullContainer|image does not exist|repository .*not found",
        errors.ImageMissing,
        "Correct image_uri, or let the execution role pull it: ecr:GetAuthorizationToken,"
        " ecr:BatchCheckLayerAvailability, ecr:GetDownloadUrlForLayer, ecr:BatchGetImage.",
    ),
    _cause(
        r"AccessDenied|access denied|not authorized|Forbidden|\b403\b",
        errors.RoleDenied,
        "Allow the execution role what it was denied; data want s3:GetObject and s3:ListBucket, models s3:PutObject.",
    ),
    _cause(
        r"No S3 objects found|NoSuchKey|NoSuchBucket|Data download failed",
        errors.DataMissing,
        "Put the data where inputs name it, or correct the URI.",
    ),
)
_EXIT_CODE = re.compile(r"(?:exit ?code:? ?)(\d+)", re.IGNORECASE)
_SPOT_STATUS = ("Interrupted", "MaxWaitTimeExceeded")


def training_failure(job: Mapping[str, Any]) -> tuple[type[errors.TrainingFailed], str]:
    """The error for a failed job, and what can be done about it.

    :param job: DescribeTrainingJob's answer.
    :return: the class, and the remedy.
    """
    reason = job.get("FailureReason", "")
    if not reason.startswith("AlgorithmError"):  # a script's own words may be anything
        for cause in _CAUSES:
            if cause.pattern.search(reason):
                return cause.error, cause.remedy
    if "OutOfMemory" in reason or exit_code(reason) == 137:
        return errors.TrainingFailed, "Its memory was used up: give a larger instance_type, or use less."
    if reason.startswith("InternalServerError"):
        return errors.TrainingFailed, "Try again: the fault is SageMaker's."
    return errors.TrainingFailed, "Correct the script or its inputs."


def exit_code(reason: str) -> int | None:
    """The exit code that a failure reason names, the script's own before the container's."""
    match = _EXIT_CODE.search(reason)
    return int(match.group(1)) if match else None


def was_spot(job: Mapping[str, Any]) -> bool:
    """Whether a stopped job ended because its spot capacity did not come back in time."""
    seen = {transition.get("Status") for transition in job.get("SecondaryStatusTransitions", ())}
    limit = job.get("SecondaryStatus") == "MaxWaitTimeExceeded"
    return bool(job.get("EnableManagedSpotTraining")) and limit and "Interrupted" in seen


_DENIED = re.compile(r"not authorized to perform:? ?(?P<action>[\w-]+:\w+)(?: on resource:? ?(?P<resource>[^\s,]+))?")
_LIMIT = re.compile(
    r"is (?P<limit>\d+) \w+,? with (?:a )?current utilization of (?P<used>\d+) \w+"
    r" and (?:a )?request delta of (?P<more>\d+)"
)


def denied_remedy(message: str, operation: str) -> str:
    """What to allow, when AWS refuses for want of a permission.

    :param message: AWS's words.
    :param operation: the API action that was called, if AWS names none: not every service does.
    """
    match = _DENIED.search(message)
    if match is None:
        return f"Check the AWS connection's credentials, and that they allow {operation}."
    on = f" on {match['resource'].rstrip('.')}" if match["resource"] else ""
    return f"Allow the AWS connection's identity {match['action']}{on}."


def quota_frees(message: str) -> bool:
    """Whether a quota would do if others did not use it; if it would never do, waiting does not help."""
    match = _LIMIT.search(message)
    return bool(match and int(match["limit"]) >= int(match["more"]) and int(match["used"]) > 0)
