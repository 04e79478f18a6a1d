"""DAGs that leave a running job: one whose run then ends, one whose run goes on until there is a file."""

import os
import time
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_sm_git import TrainOperator

GATE = os.environ["SM_GIT_TEST_GATE"]


def train():
    return TrainOperator(
        task_id="train",
        package=os.environ["SM_GIT_TEST_PACKAGE"],
        image_uri="000000000000.dkr.ecr.us-east-1.amazonaws.com/any:1",
        role="arn:aws:iam::000000000000:role/sm-git-local",
        hyperparameters={"wait-for": GATE},
        wait_for_completion=False,
    )


@task
def wait():
    while not Path(GATE).exists():
        time.sleep(0.2)


with DAG("leaving", schedule=None):
    train()

with DAG("going_on", schedule=None):
    train() >> wait()
