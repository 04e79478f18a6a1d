"""Train, serve and ask any ref of any repository, from the form that Airflow's UI shows on Trigger.

The ref is pinned when the run starts: moving the branch during the run changes nothing.
"""

import os

from airflow.sdk import DAG, Param

from airflow_sm_git import train_deploy_predict

with DAG(
    "ui_trigger",
    schedule=None,
    catchup=False,
    tags=["sm-git"],
    params={
        "repo": Param(
            os.environ.get("SM_GIT_EXAMPLE_REPO", "https://github.com/you/word-language-model"), type="string"
        ),
        "ref": Param("main", type="string", description="branch, tag or commit"),
        "entry_point": Param("train.py", type="string", description="the training script"),
        "hosting_entry_point": Param("generate.py", type="string", description="the script with the handlers"),
        "data": Param(os.environ.get("SM_GIT_EXAMPLE_DATA", "s3://your-bucket/corpus/"), type="string"),
        "hyperparameters": Param({"epochs": 4}, type="object"),
        "request": Param({"seed": 111, "temperature": 0.7, "words": 20}, type="object"),
        "policy": Param("on_success", enum=["on_success", "always", "never"], description="when to tear down"),
    },
) as dag:
    train_deploy_predict(
        repo="{{ params.repo }}",
        ref="{{ params.ref }}",
        source_dir=".",
        entry_point="{{ params.entry_point }}",
        hosting_entry_point="{{ params.hosting_entry_point }}",
        image_uri="000000000000.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5-cpu-py311",
        role="arn:aws:iam::000000000000:role/sm-git-local",
        inputs="{{ params.data }}",
        hyperparameters="{{ params.hyperparameters | tojson }}",
        metric_definitions=[{"Name": "validation:perplexity", "Regex": r"validation perplexity ([0-9.]+)"}],
        data="{{ params.request | tojson }}",
        policy="{{ params.policy }}",
        deferrable=True,
        check_interval=1,
    )
