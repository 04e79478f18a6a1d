"""Retrain every night on what the branch held at that time, whenever the run runs: a backfill trains old commits."""

import os

from airflow.sdk import DAG

from airflow_sm_git import train_deploy_predict

with DAG(
    "scheduled_retraining",
    schedule="0 2 * * *",
    catchup=False,
    max_active_runs=1,
    tags=["sm-git"],
) as dag:
    train_deploy_predict(
        repo=os.environ.get("SM_GIT_EXAMPLE_REPO", "https://github.com/you/word-language-model"),
        ref="main",
        as_of="schedule",
        source_dir=".",
        entry_point="train.py",
        hosting_entry_point="generate.py",
        image_uri="000000000000.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5-cpu-py311",
        role="arn:aws:iam::000000000000:role/sm-git-local",
        inputs=os.environ.get("SM_GIT_EXAMPLE_DATA", "s3://your-bucket/corpus/"),
        hyperparameters={"epochs": 4},
        metric_definitions=[{"Name": "validation:perplexity", "Regex": r"validation perplexity ([0-9.]+)"}],
        data={"seed": 111, "temperature": 0.7, "words": 20},
        deferrable=True,
        check_interval=1,
    )
