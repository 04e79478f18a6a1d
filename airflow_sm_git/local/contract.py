"""The script-mode contract: what a training script is started with, from a CreateTrainingJob request.

Pure. The names and forms are those of sagemaker-training 5.1.4 (``environment.py``, ``mapping.py``,
``process.py``), and a test runs the same job under it and compares; the files of ``/opt/ml/input/config`` are
described in the SageMaker developer guide, "How Amazon SageMaker provides training information".
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BASE = "/opt/ml"
CODE = f"{BASE}/code"
HOST, GROUP, NETWORK = "algo-1", "homogeneousCluster", "eth0"
SETTINGS = frozenset(
    [
        "sagemaker_program",
        "sagemaker_submit_directory",
        "sagemaker_enable_cloudwatch_metrics",
        "sagemaker_region",
        "sagemaker_container_log_level",
        "sagemaker_job_name",
        "default_user_module_name",
        "_tuning_objective_metric",
        "sagemaker_s3_output",
    ]
)
"""Hyperparameters that speak to the container and not to the script (``params.SAGEMAKER_HYPERPARAMETERS``)."""
_ENTRY_POINT = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._+-]*(/[A-Za-z0-9._+-]+)*")


class ContractError(Exception):
    """The request does not say how to run it as a script; the text says what is missing."""


@dataclass(frozen=True)
class Machine:
    """What the job runs on: processors, graphics processors, and Neuron cores it may count on."""

    cpus: int
    gpus: int = 0
    neurons: int = 0


@dataclass(frozen=True)
class Source:
    """Where a job's code is.

    :param entry_point: path of the script inside the code directory.
    :param submit_directory: S3 URI of the archive, a path below ``/opt/ml``, or ``/opt/ml/code`` itself.
    """

    entry_point: str
    submit_directory: str


def decode(hyperparameters: Mapping[str, str]) -> dict[str, Any]:
    """Hyperparameter values, JSON-decoded where they are JSON and as they are otherwise."""
    values: dict[str, Any] = {}
    for name, text in hyperparameters.items():
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


def split(hyperparameters: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Decoded hyperparameters: those for the script, and those for the container (``sagemaker_*``)."""
    values = decode(hyperparameters)
    ours = {name: value for name, value in values.items() if name in SETTINGS or name.startswith("sagemaker_")}
    return {name: value for name, value in values.items() if name not in ours}, ours


def source(request: Mapping[str, Any]) -> Source:
    """Entry point and code location of a job.

    :param request: CreateTrainingJob request.
    :raises ContractError: it names no script, or one that the container would refuse.
    """
    _, settings = split(request.get("HyperParameters", {}))
    program = request.get("Environment", {}).get("SAGEMAKER_PROGRAM") or settings.get("sagemaker_program")
    if not program:
        image = request.get("AlgorithmSpecification", {}).get("TrainingImage", "the image")
        raise ContractError(
            f"The local SageMaker runs scripts, not images: {image} would have to be told which script to run. "
            "Set the hyperparameter 'sagemaker_program' (and 'sagemaker_submit_directory'), or ContainerEntrypoint."
        )
    return Source(check_entry_point(str(program)), str(settings.get("sagemaker_submit_directory", CODE)))


def check_entry_point(name: str) -> str:
    """``name``, if it is a plain relative path, as sagemaker-training demands.

    :raises ContractError: it is not.
    """
    if not _ENTRY_POINT.fullmatch(name) or {".", ".."} & set(name.split("/")):
        raise ContractError(
            f"The training entry point {name!r} cannot be used. The hyperparameter 'sagemaker_program' must be "
            "a path inside the source directory, made of letters, digits, '.', '_', '+', '-' and '/', "
            "for example 'train.py' or 'bin/train.sh'."
        )
    return name


def arguments(hyperparameters: Mapping[str, Any]) -> list[str]:
    """Command-line arguments for decoded hyperparameters: by name, ``--name value`` (``-n value`` for one letter)."""
    found = []
    for name in sorted(hyperparameters):
        found.append(("--" if len(name) > 1 else "-") + name if name else "")
        found.append(_argument(hyperparameters[name]))
    return found


def command(entry_point: str, args: Sequence[str], *, top_level: Collection[str], python: str) -> list[str]:
    """The command that runs an entry point.

    :param args: its arguments.
    :param top_level: names at the root of the code directory; a ``setup.py`` makes it a package.
    :param python: the interpreter.
    """
    if not entry_point.endswith(".sh"):
        if "setup.py" in top_level:
            return [python, "-m", entry_point.removesuffix(".py"), *args]
        if entry_point.endswith(".py"):
            return [python, "--", entry_point, *args]
    return ["/bin/sh", "-c", f"./{shlex.quote(entry_point)} {' '.join(map(shlex.quote, args))}"]


def config_files(request: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The JSON files of ``/opt/ml/input/config``, by name."""
    return {
        "hyperparameters.json": dict(request.get("HyperParameters", {})),
        "inputdataconfig.json": {c["ChannelName"]: _channel(request, c) for c in request.get("InputDataConfig", [])},
        "resourceconfig.json": _resources(request),
    }


def variables(request: Mapping[str, Any], machine: Machine) -> dict[str, str]:
    """Every ``SM_*`` variable of a job.

    :param request: CreateTrainingJob request.
    :param machine: what it runs on.
    :raises ContractError: as :func:`source` does.
    """
    environment = _environment(request, machine)
    hyperparameters = environment["hyperparameters"]
    not_exported = {
        "additional_framework_parameters",
        "channel_input_dirs",
        "distribution_hosts",
        "hyperparameters",
        "is_master",
        "is_modelparallel_enabled",
        "is_smddpmprun_installed",
        "is_smddprun_installed",
        "job_name",
        "master_hostname",
        "topology",
    }
    exported = {name: value for name, value in environment.items() if name not in not_exported}
    exported |= {
        "hps": hyperparameters,
        "framework_params": environment["additional_framework_parameters"],
        "channels": sorted(environment["channel_input_dirs"]),
        "training_env": environment,
        "user_args": arguments(hyperparameters),
    }
    exported |= {f"channel_{name}": path for name, path in environment["channel_input_dirs"].items()}
    exported |= {f"hp_{name}": value for name, value in hyperparameters.items()}
    return {f"SM_{name.upper()}": _variable(value) for name, value in exported.items()}


def _environment(request: Mapping[str, Any], machine: Machine) -> dict[str, Any]:
    """All properties of sagemaker-training's ``Environment``: the content of ``SM_TRAINING_ENV``."""
    place = source(request)
    hyperparameters, settings = split(request.get("HyperParameters", {}))
    files = config_files(request)
    resources = files["resourceconfig.json"]
    groups = resources["instance_groups"]
    return {
        "additional_framework_parameters": {name: settings[name] for name in settings.keys() - SETTINGS},
        "channel_input_dirs": {name: f"{BASE}/input/data/{name}" for name in files["inputdataconfig.json"]},
        "current_host": HOST,
        "current_instance_group": GROUP,
        "current_instance_group_hosts": [HOST],
        "current_instance_type": resources["current_instance_type"],
        "distribution_hosts": [],
        "distribution_instance_groups": [],
        "framework_module": None,
        "hosts": [HOST],
        "hyperparameters": hyperparameters,
        "input_config_dir": f"{BASE}/input/config",
        "input_data_config": files["inputdataconfig.json"],
        "input_dir": f"{BASE}/input",
        "instance_groups": [GROUP],
        "instance_groups_dict": {group["instance_group_name"]: group for group in groups},
        "is_hetero": False,
        "is_master": True,
        "is_modelparallel_enabled": None,
        "is_smddpmprun_installed": False,
        "is_smddprun_installed": False,
        "job_name": request["TrainingJobName"],
        "log_level": settings.get("sagemaker_container_log_level", 20),
        "master_hostname": HOST,
        "model_dir": f"{BASE}/model",
        "module_dir": place.submit_directory,
        "module_name": place.entry_point.removesuffix(".py"),
        "network_interface_name": NETWORK,
        "num_cpus": machine.cpus,
        "num_gpus": machine.gpus,
        "num_neurons": machine.neurons,
        "output_data_dir": f"{BASE}/output/data",
        "output_dir": f"{BASE}/output",
        "output_intermediate_dir": f"{BASE}/output/intermediate",
        "resource_config": resources,
        "topology": [],
        "user_entry_point": place.entry_point,
    }


def _channel(request: Mapping[str, Any], channel: Mapping[str, Any]) -> dict[str, str]:
    mode = channel.get("InputMode") or request.get("AlgorithmSpecification", {}).get("TrainingInputMode", "File")
    s3 = channel.get("DataSource", {}).get("S3DataSource", {})
    config = {
        "TrainingInputMode": mode,
        "S3DistributionType": s3.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }
    if "ContentType" in channel:
        config["ContentType"] = channel["ContentType"]
    return config


def _resources(request: Mapping[str, Any]) -> dict[str, Any]:
    """One host, whatever number was asked for: the local SageMaker has one machine, and the job's log says so."""
    config = request.get("ResourceConfig", {})
    first = next(iter(config.get("InstanceGroups", [])), config)
    kind = first.get("InstanceType", "local")
    return {
        "current_host": HOST,
        "current_instance_type": kind,
        "current_group_name": GROUP,
        "hosts": [HOST],
        "instance_groups": [{"instance_group_name": GROUP, "instance_type": kind, "hosts": [HOST]}],
        "network_interface_name": NETWORK,
    }


def _argument(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in sorted(value.items()))
    return str(value)


def _variable(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
