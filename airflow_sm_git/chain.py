"""The whole chain as a task group: checkout → package → train → deploy → predict → teardown, and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow.sdk import TaskGroup

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.operators.deploy import DeployOperator
from airflow_sm_git.operators.git_checkout import GitCheckoutOperator
from airflow_sm_git.operators.package_source import PackageSourceOperator
from airflow_sm_git.operators.predict import PredictOperator
from airflow_sm_git.operators.report import ReportOperator
from airflow_sm_git.operators.teardown import TeardownOperator
from airflow_sm_git.operators.train import TrainOperator

_STEPS = ("checkout", "package", "train", "deploy", "predict", "teardown")


@dataclass(frozen=True)
class Chain:
    """The tasks of one chain, to hang others on. `predict` and `report` may be absent."""

    group: TaskGroup
    checkout: GitCheckoutOperator
    package: PackageSourceOperator
    train: TrainOperator
    deploy: DeployOperator
    predict: PredictOperator | None
    teardown: TeardownOperator
    report: ReportOperator | None


def train_deploy_predict(
    *,
    entry_point: str,
    image_uri: str,
    repo: str | None = None,
    ref: Any = None,
    git_conn_id: str | None = None,
    git_config: Mapping[str, Any] | None = None,
    as_of: Any = None,
    source_dir: str | None = None,
    dependencies: Sequence[str] = (),
    hosting_entry_point: str | None = None,
    hosting_source_dir: str | None = None,
    hosting_image_uri: str | None = None,
    role: str | None = None,
    inputs: Any = None,
    hyperparameters: Any = None,
    metric_definitions: Sequence[Mapping[str, str]] = (),
    data: Any = None,
    policy: str = "on_success",
    aws_conn_id: str | None = "aws_default",
    region_name: str | None = None,
    s3_uri_prefix: str | None = None,
    deferrable: bool | None = None,
    group_id: str = "train_deploy_predict",
    report: bool = True,
    **steps: Mapping[str, Any],
) -> Chain:
    """Build the chain inside a DAG or a (mapped) task group.

    What most runs set is a parameter here; anything else that an operator takes goes into a dict by step, such as
    ``train={"instance_type": "ml.g5.xlarge"}``.

    :param entry_point: the training script; serves too, unless `hosting_entry_point` says otherwise.
    :param image_uri: the training image; serves too, unless `hosting_image_uri` says otherwise.
    :param repo, ref, git_conn_id, git_config, as_of: which commit; see `GitCheckoutOperator`.
    :param source_dir, dependencies: what of it to package; see `PackageSourceOperator`.
    :param hosting_entry_point: another script of the same commit that serves.
    :param hosting_source_dir: its directory, if it is not `source_dir`; makes a package of its own.
    :param role, inputs, hyperparameters, metric_definitions: see `TrainOperator`.
    :param data: the payload of the prediction; None for no prediction.
    :param policy: what teardown does: ``"on_success"``, ``"always"`` or ``"never"``.
    :param aws_conn_id, region_name, s3_uri_prefix, deferrable: for all steps.
    :param group_id: id of the task group.
    :param report: whether the run's report follows here; a mapped chain has one report outside of its group.
    :param steps: further arguments by step: checkout, package, train, deploy, predict, teardown.
    :return: the tasks.
    """
    unknown = sorted(set(steps) - set(_STEPS))
    if unknown:
        raise BadParameter("steps", unknown, "no such step or parameter", f"Steps: {', '.join(_STEPS)}.")
    more = {step: dict(steps.get(step, {})) for step in _STEPS}
    git = {"git_conn_id": git_conn_id, "git_config": git_config}
    aws = {"aws_conn_id": aws_conn_id, "region_name": region_name}
    storing = {**aws, "s3_uri_prefix": s3_uri_prefix}
    waiting = {"deferrable": deferrable}
    with TaskGroup(group_id=group_id) as group:
        checkout = GitCheckoutOperator(
            **{"task_id": "checkout", "repo": repo, "ref": ref, "as_of": as_of, **git, **more["checkout"]}
        )

        def package(task_id: str, script: str, directory: str | None) -> PackageSourceOperator:
            arguments = {"entry_point": script, "source_dir": directory, "dependencies": dependencies, **git, **storing}
            return PackageSourceOperator(
                **{"task_id": task_id, "checkout": checkout.output, **arguments, **more["package"]}
            )

        code = package("package", entry_point, source_dir)
        alone = hosting_entry_point is not None and not source_dir  # without a source_dir a package is one script
        own = hosting_source_dir is not None or alone
        hosting = package("package_hosting", hosting_entry_point or entry_point, hosting_source_dir) if own else code
        train = TrainOperator(
            **{"task_id": "train", "package": code.output, "image_uri": image_uri, "role": role, "inputs": inputs},
            **{"hyperparameters": hyperparameters, "metric_definitions": metric_definitions},
            **{**storing, **waiting, **more["train"]},
        )
        deploy = DeployOperator(
            **{"task_id": "deploy", "training_job": train.output, "package": hosting.output, "role": role},
            **{"image_uri": hosting_image_uri or image_uri, "entry_point": None if own else hosting_entry_point},
            **{**storing, **waiting, **more["deploy"]},
        )
        predict = None
        if data is not None or more["predict"]:
            predict = PredictOperator(
                **{"task_id": "predict", "endpoint": deploy.output, "data": data, **storing, **more["predict"]}
            )
        teardown = TeardownOperator(**{"task_id": "teardown", "policy": policy, **aws, **waiting, **more["teardown"]})
        last = deploy >> predict if predict else deploy
        last >> teardown.as_teardown(setups=checkout, on_failure_fail_dagrun=True)
        leaf = ReportOperator(task_id="report") if report else None
        if leaf:
            _ = [last, teardown] >> leaf
    return Chain(group, checkout, code, train, deploy, predict, teardown, leaf)
