"""Train, host and query the code of a git commit on Amazon SageMaker, from Airflow.

The public names are imported when they are first used, because Airflow's DAG processor and its command line import
provider packages often: importing this package alone loads no Airflow, no boto3 and no git.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from airflow_sm_git.chain import train_deploy_predict as train_deploy_predict
    from airflow_sm_git.hooks.git import commit_range as commit_range
    from airflow_sm_git.operators.deploy import DeployOperator as DeployOperator
    from airflow_sm_git.operators.git_checkout import GitCheckoutOperator as GitCheckoutOperator
    from airflow_sm_git.operators.package_source import PackageSourceOperator as PackageSourceOperator
    from airflow_sm_git.operators.predict import PredictOperator as PredictOperator
    from airflow_sm_git.operators.report import ReportOperator as ReportOperator
    from airflow_sm_git.operators.sweep import SweepOperator as SweepOperator
    from airflow_sm_git.operators.teardown import TeardownOperator as TeardownOperator
    from airflow_sm_git.operators.train import TrainOperator as TrainOperator
    from airflow_sm_git.sensors.endpoint import EndpointSensor as EndpointSensor
    from airflow_sm_git.sensors.training_job import TrainingJobSensor as TrainingJobSensor
    from airflow_sm_git.triggers.endpoint import EndpointTrigger as EndpointTrigger
    from airflow_sm_git.triggers.training_job import TrainingJobTrigger as TrainingJobTrigger

_HOMES = {
    "DeployOperator": "operators.deploy",
    "EndpointSensor": "sensors.endpoint",
    "EndpointTrigger": "triggers.endpoint",
    "GitCheckoutOperator": "operators.git_checkout",
    "PackageSourceOperator": "operators.package_source",
    "PredictOperator": "operators.predict",
    "ReportOperator": "operators.report",
    "SweepOperator": "operators.sweep",
    "TeardownOperator": "operators.teardown",
    "TrainOperator": "operators.train",
    "TrainingJobSensor": "sensors.training_job",
    "TrainingJobTrigger": "triggers.training_job",
    "commit_range": "hooks.git",
    "train_deploy_predict": "chain",
}


def __getattr__(name: str) -> object:
    """Import a public name's module on first use (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported already or not."""
    return sorted({*globals(), *_HOMES})
