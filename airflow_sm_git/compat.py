"""Names that differ between Airflow 3.0 and the newest; the only place that knows.

Name by name: one ``try`` around several imports would drop all of them when one is missing.
"""

from __future__ import annotations

try:
    from airflow.sdk.exceptions import AirflowFailException
except ImportError:  # before 3.1
    from airflow.exceptions import AirflowFailException  # type: ignore[no-redef, attr-defined, unused-ignore]

try:
    from airflow.sdk.exceptions import AirflowSkipException
except ImportError:  # before 3.1
    from airflow.exceptions import AirflowSkipException  # type: ignore[no-redef, attr-defined, unused-ignore]

try:
    from airflow.sdk import conf
except ImportError:  # before 3.1
    from airflow.configuration import conf  # type: ignore[no-redef, assignment, attr-defined, unused-ignore]

try:
    from airflow.sdk.log import mask_secret
except ImportError:  # before 3.1
    from airflow.sdk.execution_time.secrets_masker import mask_secret  # type: ignore[no-redef, import-not-found, unused-ignore]

try:
    from airflow.sdk.exceptions import AirflowSensorTimeout
except ImportError:  # before 3.1
    from airflow.exceptions import AirflowSensorTimeout  # type: ignore[no-redef, attr-defined, unused-ignore]

try:
    from airflow.sdk.exceptions import AirflowTaskTimeout
except ImportError:  # before 3.1
    from airflow.exceptions import AirflowTaskTimeout  # type: ignore[no-redef, attr-defined, unused-ignore]

try:
    from airflow.sdk.exceptions import TaskDeferralError
except ImportError:  # before 3.1
    from airflow.exceptions import TaskDeferralError  # type: ignore[no-redef, attr-defined, unused-ignore]

try:
    from airflow.sdk import BaseHook
except ImportError:  # before 3.1
    from airflow.hooks.base import BaseHook  # type: ignore[no-redef, assignment, attr-defined, unused-ignore]

try:
    from airflow.sdk import RetryPolicy
except ImportError:  # before 3.3, which asks no policy

    class RetryPolicy:  # type: ignore[no-redef, unused-ignore]
        """Stands where Airflow has none."""


__all__ = [
    "AirflowFailException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "RetryPolicy",
    "TaskDeferralError",
    "conf",
    "mask_secret",
]
