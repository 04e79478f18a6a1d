"""Links to a training job and to an endpoint in the SageMaker console.

A link is pushed under its `xcom_key` while the task runs, so that it is there before the task has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperatorLink

from airflow_sm_git.core.console import console_url

if TYPE_CHECKING:
    from airflow.sdk import Context


class _ConsoleLink(BaseOperatorLink):
    page: ClassVar[str]
    key: ClassVar[str]

    @property
    def xcom_key(self) -> str:
        """Where the link is kept."""
        return self.key

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The link, from XCom; empty before the task has made it."""
        from airflow.sdk.execution_time.xcom import XCom

        value = XCom.get_value(key=self.key, ti_key=ti_key)
        return str(value or "")

    @classmethod
    def persist(cls, context: Context, region: str, name: str) -> None:
        """Push the link of a resource."""
        context["ti"].xcom_push(key=cls.key, value=console_url(region, cls.page, name))


class TrainingJobLink(_ConsoleLink):
    """The training job's page."""

    name = "Training job"
    page = "jobs"
    key = "sm_git_training_job_link"


class EndpointLink(_ConsoleLink):
    """The endpoint's page."""

    name = "Endpoint"
    page = "endpoints"
    key = "sm_git_endpoint_link"
