"""When a namespace was last swept: an object in S3, which sweeps leave and runs look at."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from airflow_sm_git.clients.s3 import Store
from airflow_sm_git.core import errors
from airflow_sm_git.core.sweep_record import Sweep, counts

PATIENCE = timedelta(days=7)


def mark_swept(store: Store, record: Sweep) -> str:
    """Write down that a sweep has deleted all that it was to delete.

    :return: the marker's URI.
    :raises AwsError: S3 refused it.
    """
    body = json.dumps(counts(record), indent=2).encode()
    return store.put(_key(record["namespace"], record["region"]), body, "application/json")


def last_swept(store: Store, namespace: str, region: str) -> datetime | None:
    """When the last sweep was that deleted all that it was to delete; None if none is known.

    :raises AwsError: S3 cannot be asked.
    """
    try:
        marker: Any = json.loads(b"".join(store.read(store.uri(_key(namespace, region)))))
        moment = datetime.fromisoformat(marker["swept_at"])
    except (errors.NotFound, ValueError, KeyError, TypeError):  # there is none, or not one that `mark_swept` wrote
        return None
    return moment if moment.tzinfo is not None else None


def warn_if_unswept(
    log: Any, store: Store, namespace: str, region: str, now: datetime | None = None
) -> datetime | None:
    """Warn where nothing has swept for a week; never an error.

    :param log: a logger.
    :param now: None for the clock's.
    :return: when the last sweep was, as far as it is known.
    """
    try:
        last = last_swept(store, namespace, region)
    except errors.AwsError as error:
        log.warning("When the namespace %r was last swept cannot be told: %s", namespace, error)
        return None
    if last is None or (now or datetime.now(UTC)) - last > PATIENCE:
        since = f"since {last.isoformat()}" if last else "yet, as far as is known"
        log.warning(
            "Nothing has swept the namespace %r in %s %s: what runs leave there is billed until somebody removes it."
            " Schedule the example DAG `sweep`, or run: airflow-sm-git sweep --delete",
            namespace,
            region,
            since,
        )
    return last


def try_to_mark(store: Store, record: Sweep, log: Any = None) -> None:
    """Write the marker of a sweep that was to delete and left nothing undone; a failure is a warning.

    :param log: a logger; None for this module's.
    """
    if not record["delete"] or record["failed"]:
        return
    try:
        mark_swept(store, record)
    except errors.AwsError as error:
        (log or logging.getLogger(__name__)).warning("This sweep leaves no mark of when it was: %s", error.what)


def _key(namespace: str, region: str) -> str:
    return f"sweeps/{region}/{quote(namespace, safe='') or '-'}.json"
