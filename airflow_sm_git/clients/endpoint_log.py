"""The log of an endpoint's newest containers, which are those that an error is about.

An old version that serves on writes too, and later; so the newest is what was made last, not what wrote last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_git.clients.job_log import quoted
from airflow_sm_git.clients.sagemaker import translate
from airflow_sm_git.core.sensitive import hidden

ENDPOINT_LOG_GROUP = "/aws/sagemaker/Endpoints"
_STREAMS = 50  # the most that DescribeLogStreams gives at once


def log_end(logs: Any, endpoint: str, reason: str = "", secrets: Sequence[str] = ()) -> str:
    """What an error shall say of an endpoint's log: where it is, and its last lines.

    :param logs: boto3's ``logs`` client.
    :param reason: a FailureReason; if it names a variant, that variant's log is read.
    :param secrets: texts that must not be shown, though the container wrote them.
    """
    group = f"{ENDPOINT_LOG_GROUP}/{endpoint}"
    try:
        said = hidden(quoted(_newest(logs, group, reason)), secrets)
    except (ClientError, BotoCoreError) as error:
        said = "" if _is_missing(error) else f"\nIt cannot be read: {translate(error, 'GetLogEvents', group)}"
    return f"\nIts log group is {group}.{said}"


def _newest(logs: Any, group: str, reason: str) -> list[str]:
    request = {"logGroupName": group, "orderBy": "LastEventTime", "descending": True, "limit": _STREAMS}
    streams = logs.describe_log_streams(**request)["logStreams"]
    named = [each for each in streams if f" {each['logStreamName'].partition('/')[0]} " in f"{reason} "]
    chosen = max(named or streams, key=lambda each: each["creationTime"], default=None)
    if chosen is None:
        return []
    stream = {"logGroupName": group, "logStreamName": chosen["logStreamName"]}
    return [event["message"] for event in logs.get_log_events(**stream, startFromHead=False, limit=200)["events"]]


def _is_missing(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] == "ResourceNotFoundException"
