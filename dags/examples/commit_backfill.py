"""Train, serve and ask each of the last N commits, each with its own endpoint and teardown; compare their metrics."""

import os

from airflow.sdk import DAG, Param, task, task_group

from airflow_sm_git import ReportOperator, train_deploy_predict

with DAG(
    "commit_backfill",
    schedule=None,
    catchup=False,
    tags=["sm-git"],
    params={
        "repo": Param(
            os.environ.get("SM_GIT_EXAMPLE_REPO", "https://github.com/you/word-language-model"), type="string"
        ),
        "ref": Param("main", type="string", description="the branch"),
        "commits": Param(3, type="integer", minimum=1, maximum=50, description="how many, counted from its tip"),
        "data": Param(os.environ.get("SM_GIT_EXAMPLE_DATA", "s3://your-bucket/corpus/"), type="string"),
        "epochs": Param(4, type="integer", minimum=1),
    },
) as dag:

    @task
    def commits(params=None):
        from airflow_sm_git import commit_range

        return commit_range(repo=params["repo"], ref=params["ref"], limit=params["commits"])

    @task_group
    def one(commit):
        return train_deploy_predict(
            repo="{{ params.repo }}",
            ref=commit,
            source_dir=".",
            entry_point="train.py",
            hosting_entry_point="generate.py",
            image_uri="000000000000.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5-cpu-py311",
            role="arn:aws:iam::000000000000:role/sm-git-local",
            inputs="{{ params.data }}",
            hyperparameters='{"epochs": {{ params.epochs }}}',
            metric_definitions=[{"Name": "validation:perplexity", "Regex": r"validation perplexity ([0-9.]+)"}],
            data={"seed": 111, "temperature": 0.7, "words": 20},
            policy="always",
            deferrable=True,
            check_interval=1,
            report=False,
        ).teardown

    one.expand(commit=commits()) >> ReportOperator(task_id="report")
