"""DAGs whose tasks a test clears after their branch has moved: a plain one, one that repins if told, one that
waits; and one whose first job fails."""

import os

from airflow.sdk import DAG

from airflow_sm_git import train_deploy_predict


def chain(**options):
    train_deploy_predict(
        repo=os.environ["SM_GIT_TEST_REPO"],
        ref="main",
        source_dir="src",
        entry_point="train.py",
        hosting_entry_point="serve.py",
        image_uri="000000000000.dkr.ecr.us-east-1.amazonaws.com/any:1",
        role="arn:aws:iam::000000000000:role/sm-git-local",
        check_interval=0.5,
        group_id="chain",
        **options,
    )


with DAG("pinned", schedule=None):
    chain(data="{{ var.value.question }}", predict={"retries": 0})

with DAG("repinned", schedule=None):
    chain(data="hi", checkout={"repin": "{{ var.value.repin }}"})

with DAG("waiting", schedule=None):
    chain(data="hi", deferrable=True, hyperparameters={"wait-for": os.environ["SM_GIT_TEST_GATE"]})

with DAG("retried", schedule=None):
    chain(data="hi", deferrable=True, hyperparameters={"fail-attempt": "1"})
