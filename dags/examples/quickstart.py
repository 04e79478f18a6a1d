"""From a git commit to a prediction and back down. Configured by `airflow-sm-git demo`, or by its own Params."""

from airflow.sdk import DAG, Param

from airflow_sm_git import train_deploy_predict

with DAG(
    "quickstart",
    schedule=None,
    catchup=False,
    tags=["sm-git"],
    params={
        "repo": Param("https://example.com/word-language-model.git", type="string"),
        "ref": Param("main", type="string"),
        "training": Param("s3://sagemaker-us-east-1-000000000000/demo/", type="string"),
        "epochs": Param(4, type="integer", minimum=1),
        "seed": Param(111, type="integer"),
        "policy": Param("on_success", enum=["on_success", "always", "never"]),
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
        inputs="{{ params.training }}",
        hyperparameters='{"epochs": {{ params.epochs }}}',
        metric_definitions=[{"Name": "validation:perplexity", "Regex": r"validation perplexity ([0-9.]+)"}],
        data='{"seed": {{ params.seed }}, "temperature": 2.0, "words": 100}',
        policy="{{ params.policy }}",
        deferrable=True,
        train={"check_interval": 1},
        deploy={"check_interval": 1},
        teardown={"check_interval": 1},
    )
