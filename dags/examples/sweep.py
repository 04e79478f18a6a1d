"""Every day, look for what runs have left, and delete what has expired. Trigger it without `delete` to see it first."""

from airflow.sdk import DAG, Param

from airflow_sm_git import SweepOperator

with DAG(
    "sweep",
    schedule="@daily",
    catchup=False,
    max_active_runs=1,
    tags=["sm-git"],
    params={
        "delete": Param(True, type="boolean", description="delete what has expired; otherwise only list it"),
        "older_than": Param(
            None, type=["null", "string"], description="such as 3d: older things with a lease count as expired too"
        ),
    },
) as dag:
    SweepOperator(task_id="sweep", delete="{{ params.delete }}", older_than="{{ params.older_than }}", retries=1)
