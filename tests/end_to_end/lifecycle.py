"""One DAG for each way in which a run can end; a test brings it about."""

import os
import time
from datetime import timedelta

from airflow.sdk import DAG, task, task_group

from airflow_sm_git import ReportOperator, train_deploy_predict

ALL = {"deferrable": True, "check_interval": 1, "policy": "always", "data": "hi"}


def chain(**options):
    return train_deploy_predict(
        repo=os.environ["SM_GIT_TEST_REPO"],
        source_dir="src",
        hosting_entry_point="serve.py",
        image_uri="000000000000.dkr.ecr.us-east-1.amazonaws.com/any:1",
        role="arn:aws:iam::000000000000:role/sm-git-local",
        group_id="chain",
        **{"ref": "main", "entry_point": "train.py", **ALL, **options},
    )


def gate(name):
    """The job runs until the test makes a file of this name."""
    return {"wait-for": os.path.join(os.environ["SM_GIT_TEST_GATES"], name)}


with DAG("all_succeed", schedule=None):
    chain()

with DAG("train_fails", schedule=None):
    chain(hyperparameters={"fail": "1"}, train={"retries": 1})

with DAG("deploy_fails", schedule=None):
    chain(deploy={"environment": {"NEEDS": "/nowhere"}, "retries": 1})

with DAG("predict_fails", schedule=None):
    chain(data="please raise", predict={"retries": 0})

with DAG("delete_fails", schedule=None):
    chain(teardown={"retries": 1})

with DAG("run_marked_failed", schedule=None):
    chain(hyperparameters=gate("run_marked_failed"))

with DAG("cleared_while_running", schedule=None):
    chain(hyperparameters=gate("cleared_while_running"))

with DAG("cleared_after", schedule=None):
    chain()

with DAG("marked_success", schedule=None):
    chain(hyperparameters=gate("marked_success"), deploy={"retries": 1})

with DAG("execution_timeout", schedule=None):
    chain(
        hyperparameters=gate("execution_timeout"),
        train={"execution_timeout": timedelta(seconds=20), "retries": 1},
    )

with DAG("killed_in_worker", schedule=None):
    # A policy under which the teardown stops no job: what stops it is the task that is killed.
    chain(hyperparameters=gate("killed_in_worker"), deferrable=False, policy="never", train={"retries": 1})

with DAG("dagrun_timeout", schedule=None, dagrun_timeout=timedelta(seconds=170)):
    made = chain(data=None)

    @task
    def ask_by_hand():
        time.sleep(600)

    made.deploy >> ask_by_hand() >> made.teardown

with DAG("mapped", schedule=None):

    @task_group
    def one(script):
        return chain(entry_point=script, train={"retries": 1}, report=False).teardown

    one.expand(script=["train.py", "broken.py", "train.py"]) >> ReportOperator(task_id="report")

with DAG("triggerer_killed", schedule=None):
    chain(entry_point="numbered.py", data=None)
