"""The whole chain as a task group: checkout → package → train → deploy → predict → teardown, and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

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


class Chain(NamedTuple):
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
    paths: Sequence[str] | str = (),
    source_dir: str | None = None,
    dependencies: Sequence[str] = (),
    submodules: bool | str = False,
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
    check_interval: float | timedelta | None = None,
    group_id: str = "train_deploy_predict",
    report: bool = True,
    **steps: Mapping[str, Any],
) -> Chain:
    """Build the chain inside a DAG or a (mapped) task group.

    What most runs set is a parameter here; anything else that an operator takes goes into a dict by step, such as
    ``train={"instance_type": "ml.g5.xlarge"}``.

    :param entry_point: the training script; serves too, unless `hosting_entry_point` says otherwise.
    :param image_uri: the training image; serves too, unless `hosting_image_uri` says otherwise.
    :param repo, ref, git_conn_id, git_config, as_of, paths: which commit; see `GitCheckoutOperator`.
    :param source_dir, dependencies, submodules: what of it to package; see `PackageSourceOperator`.
    :param hosting_entry_point: another script of the same commit that serves.
    :param hosting_source_dir: its directory, if it is not `source_dir`; makes a package of its own.
    :param role, inputs, hyperparameters, metric_definitions: see `TrainOperator`.
    :param data: the payload of the prediction; None for no prediction.
    :param policy: what teardown does: ``"on_success"``, ``"always"`` or ``"never"``.
    :param aws_conn_id, region_name, s3_uri_prefix, deferrable: for all steps.
    :param check_interval: how often the steps that wait look; None for each one's own default.
    :param group_id: id of the task group.
    :param report: whether the run's report follows here; a mapped chain has one report outside of its group.
    :param steps: further arguments by step: checkout, package, train, deploy, predict, teardown.
    :return: the tasks.
    """
    unknown = sorted(set(steps) - set(_STEPS))
    if unknown:
        raise BadParameter("steps", unknown, "no such step or parameter", f"Steps: {', '.join(_STEPS)}.")
    git = {"git_conn_id": git_conn_id, "git_config": git_config}
    aws = {"aws_conn_id": aws_conn_id, "region_name": region_name}
    storing = {**aws, "s3_uri_prefix": s3_uri_prefix}
    waiting: dict[str, Any] = {"deferrable": deferrable}
    waiting |= {} if check_interval is None else {"check_interval": check_interval}

    def arguments(step: str, *defaults: Mapping[str, Any], **own: Any) -> dict[str, Any]:
        merged: dict[str, Any] = {"task_id": step, **own}
        for more in (*defaults, steps.get(step, {})):
            merged |= more
        return merged

    def packaged(task_id: str, script: str, directory: str | None) -> PackageSourceOperator:
        what = {"entry_point": script, "source_dir": directory, "dependencies": dependencies, "submodules": submodules}
        kwargs = arguments("package", git, storing, what, checkout=checkout.output)
        return PackageSourceOperator(**{**kwargs, "task_id": task_id})

    # Without a source_dir a package is one script, so another hosting script needs a package of its own.
    own_package = hosting_source_dir is not None or (hosting_entry_point is not None and not source_dir)
    with TaskGroup(group_id=group_id) as group:
        commit = {"repo": repo, "ref": ref, "as_of": as_of, "paths": paths}
        checkout = GitCheckoutOperator(**arguments("checkout", git, aws, commit))
        package = packaged("package", entry_point, source_dir)
        hosting = package
        if own_package:
            hosting = packaged("package_hosting", hosting_entry_point or entry_point, hosting_source_dir)
        train_arguments: dict[str, Any] = {"hyperparameters": hyperparameters, "metric_definitions": metric_definitions}
        train_arguments |= {"image_uri": image_uri, "role": role, "inputs": inputs}
        train = TrainOperator(**arguments("train", storing, waiting, train_arguments, package=package.output))
        deploy_arguments: dict[str, Any] = {"image_uri": hosting_image_uri or image_uri, "role": role}
        deploy_arguments |= {"entry_point": None if own_package else hosting_entry_point, "package": hosting.output}
        deploy = DeployOperator(**arguments("deploy", storing, waiting, deploy_arguments, training_job=train.output))
        predict = None
        if data is not None or "predict" in steps:
            predict = PredictOperator(**arguments("predict", storing, endpoint=deploy.output, data=data))
        teardown = TeardownOperator(**arguments("teardown", storing, waiting, policy=policy))
        last = deploy >> predict if predict else deploy
        last >> teardown.as_teardown(setups=checkout, on_failure_fail_dagrun=True)
        leaf = ReportOperator(task_id="report") if report else None
        if leaf:
            _ = [last, teardown] >> leaf
    return Chain(group, checkout, package, train, deploy, predict, teardown, leaf)
