"""From a git commit to a prediction and back down. `airflow-sm-git demo` runs it; trigger it with your own Params."""

import os

from airflow.sdk import DAG, Param

from airflow_sm_git import train_deploy_predict

PERPLEXITIES = {
    "validation": "validation perplexity",
    "initial": "initial weights perplexity",
    "unigram": "unigram perplexity",
}

with DAG(
    "quickstart",
    schedule=None,
    catchup=False,
    tags=["sm-git"],
    params={
        "repo": Param(
            os.environ.get("SM_GIT_EXAMPLE_REPO", "https://github.com/you/word-language-model"), type="string"
        ),
        "ref": Param("main", type="string", description="branch, tag or commit"),
        "data": Param(os.environ.get("SM_GIT_EXAMPLE_DATA", "s3://your-bucket/corpus/"), type="string"),
        "epochs": Param(4, type="integer", minimum=1),
        "seed": Param(111, type="integer"),
        "policy": Param("on_success", enum=["on_success", "always", "never"], description="when to tear down"),
    },
) as dag:
    train_deploy_predict(
        repo="{{ params.repo }}",
        ref="{{ params.ref }}",
        source_dir=".",
        entry_point="train.py",
        hosting_entry_point="generate.py",
        image_uri="000000000000.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5-cpu-py311",
        role="arn:aws:iam::000000000000:role/sm-git-local",
        inputs="{{ params.data }}",
        hyperparameters='{"epochs": {{ params.epochs }}}',
        metric_definitions=[
            {"Name": f"{name}:perplexity", "Regex": f"{text} ([0-9.]+)"} for name, text in PERPLEXITIES.items()
        ],
        data='{"seed": {{ params.seed }}, "temperature": 2.0, "words": 100}',
        policy="{{ params.policy }}",
        deferrable=True,
        check_interval=1,
    )
