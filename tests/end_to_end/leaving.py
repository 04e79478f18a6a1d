"""DAGs whose job goes on when their run is marked: one for runs that are, one for a run that goes on."""

import os

from airflow.sdk import DAG

from airflow_sm_git import TrainOperator

for dag_id in ("leaving", "going_on"):
    with DAG(dag_id, schedule=None):
        TrainOperator(
            task_id="train",
            package=os.environ["SM_GIT_TEST_PACKAGE"],
            image_uri="000000000000.dkr.ecr.us-east-1.amazonaws.com/any:1",
            role="arn:aws:iam::000000000000:role/sm-git-local",
            hyperparameters={"wait-for": os.environ["SM_GIT_TEST_GATE"]},
            deferrable=True,
            cancel_on_kill=False,
            check_interval=1,
        )
