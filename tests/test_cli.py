"""The command line, as a user types it: the installed program in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_sm_git.core.names import make_tags
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import client, config, model, unique, variant

PROGRAM = str(Path(sys.executable).with_name("airflow-sm-git"))


def run(server: LocalSageMaker, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), **server.env}
    return subprocess.run([PROGRAM, *arguments], env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def kept(local_sagemaker: LocalSageMaker) -> dict[str, str]:
    """An endpoint with its parts, as a failed run leaves it; names by kind."""
    sagemaker = client(local_sagemaker, "sagemaker")
    tags = make_tags({"namespace": "default", "lease-until": "2030-01-01T00:00:00Z"})
    names = {kind: unique("kept") for kind in ("Endpoint", "EndpointConfig", "Model")}
    sagemaker.create_model(**{**model(local_sagemaker), "ModelName": names["Model"], "Tags": tags})
    variants = [variant(names["Model"])]
    sagemaker.create_endpoint_config(EndpointConfigName=names["EndpointConfig"], ProductionVariants=variants, Tags=tags)
    sagemaker.create_endpoint(EndpointName=names["Endpoint"], EndpointConfigName=names["EndpointConfig"], Tags=tags)
    return names


def there(sagemaker: Any, names: dict[str, str]) -> list[str]:
    """The kinds that still exist."""
    found = []
    for kind, name in names.items():
        describe = {
            "Endpoint": sagemaker.describe_endpoint,
            "EndpointConfig": sagemaker.describe_endpoint_config,
            "Model": sagemaker.describe_model,
        }[kind]
        try:
            describe(**{f"{kind}Name": name})
            found.append(kind)
        except ClientError as error:
            assert "Could not find" in error.response["Error"]["Message"]
    return found


def test_sweep_lists_an_endpoint_with_its_parts_and_deletes_nothing_unless_told(
    local_sagemaker: LocalSageMaker, kept: dict[str, str], tmp_path: Path
) -> None:
    done = run(local_sagemaker, tmp_path, "sweep", "--endpoint", kept["Endpoint"])
    assert done.returncode == 0, done.stderr
    for kind, name in kept.items():
        assert f"{kind} {name}" in done.stdout
    assert "2030-01-01T00:00:00Z" in done.stdout
    assert there(client(local_sagemaker, "sagemaker"), kept) == ["Endpoint", "EndpointConfig", "Model"]


def test_sweep_deletes_an_endpoint_with_its_parts_though_it_is_still_being_created(
    local_sagemaker: LocalSageMaker, kept: dict[str, str], tmp_path: Path
) -> None:
    done = run(local_sagemaker, tmp_path, "sweep", "--endpoint", kept["Endpoint"], "--delete")
    assert done.returncode == 0, done.stderr
    assert there(client(local_sagemaker, "sagemaker"), kept) == []


def test_sweep_does_not_touch_what_does_not_carry_the_namespace(
    local_sagemaker: LocalSageMaker, tmp_path: Path
) -> None:
    name = unique("others")
    sagemaker = client(local_sagemaker, "sagemaker")
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config(local_sagemaker, "w"))
    done = run(local_sagemaker, tmp_path, "sweep", "--endpoint", name, "--delete")
    assert done.returncode == 1
    assert f"Endpoint {name!r} does not carry the namespace 'default'" in done.stderr
    assert sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] in ("Creating", "InService")


def test_sweep_says_that_there_is_no_such_endpoint(local_sagemaker: LocalSageMaker, tmp_path: Path) -> None:
    done = run(local_sagemaker, tmp_path, "sweep", "--endpoint", "nothing-here", "--delete")
    assert done.returncode == 1
    assert "There is no endpoint 'nothing-here'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_named_with_the_remedy(local_sagemaker: LocalSageMaker, tmp_path: Path) -> None:
    done = run(local_sagemaker, tmp_path, "local", "start", "--port", str(local_sagemaker.info.port))
    assert done.returncode == 1
    assert str(local_sagemaker.info.port) in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["demo", "local", "sweep"])
def test_every_command_explains_itself(local_sagemaker: LocalSageMaker, tmp_path: Path, command: str) -> None:
    done = run(local_sagemaker, tmp_path, command, "--help")
    assert done.returncode == 0
    assert f"airflow-sm-git {command}" in done.stdout
    assert list(tmp_path.iterdir()) == [], "asking for help makes no folder"
