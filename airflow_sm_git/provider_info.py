"""What Airflow's provider discovery is told (entry point ``apache_airflow_provider``)."""

from __future__ import annotations

from typing import Any

from airflow_sm_git import __version__


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata.

    The keys are those of Airflow's ``provider_info.schema.json``. There is no connection type of our own: git
    connections have type ``git``, AWS connections type ``aws``.
    """
    return {
        "package-name": "airflow-sm-git",
        "name": "SageMaker from git",
        "description": "Train, host and query the code of a git commit on Amazon SageMaker.",
        "versions": [__version__],
    }
