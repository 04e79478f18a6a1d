"""A DAG whose teardown uses a connection of its own, which a test lets lose the right to delete."""

import os

from airflow.sdk import DAG

from airflow_sm_git import train_deploy_predict

with DAG("undeletable", schedule=None) as dag:
    train_deploy_predict(
        repo=os.environ["SM_GIT_EXAMPLE_REPO"],
        ref="main",
        source_dir=".",
        entry_point="train.py",
        hosting_entry_point="generate.py",
        image_uri="000000000000.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5-cpu-py311",
        role="arn:aws:iam::000000000000:role/sm-git-local",
        inputs=os.environ["SM_GIT_EXAMPLE_DATA"],
        data={"words": 7},
        deferrable=True,
        check_interval=1,
        teardown={"aws_conn_id": "aws_teardown"},
    )
