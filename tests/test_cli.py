"""The command line, as a user types it: the installed program in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_sm_git.core.names import content_name, make_tags
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.clients.traces import Scene, play, replaced
from tests.local.sagemaker_requests import BUCKET, client, config, model, unique, variant

PROGRAM = str(Path(sys.executable).with_name("airflow-sm-git"))


def run(server: LocalSageMaker, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), **server.env}
    return subprocess.run([PROGRAM, *arguments], env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def kept(local_sagemaker: LocalSageMaker) -> Iterator[dict[str, str]]:
    """An endpoint with its parts, as a failed run leaves it; names by kind."""
    sagemaker = client(local_sagemaker, "sagemaker")
    tags = make_tags({"namespace": "default", "lease-until": "2030-01-01T00:00:00Z"})
    endpoint = unique("kept")
    names = {"Endpoint": endpoint, **{kind: content_name(endpoint, kind) for kind in ("EndpointConfig", "Model")}}
    sagemaker.create_model(**{**model(local_sagemaker), "ModelName": names["Model"], "Tags": tags})
    variants = [variant(names["Model"])]
    sagemaker.create_endpoint_config(EndpointConfigName=names["EndpointConfig"], ProductionVariants=variants, Tags=tags)
    sagemaker.create_endpoint(EndpointName=names["Endpoint"], EndpointConfigName=names["EndpointConfig"], Tags=tags)
    yield names
    if "Endpoint" in there(sagemaker, names):
        steps.clean_up(local_sagemaker, names["Endpoint"])


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
    steps.clean_up(local_sagemaker, name)


def test_sweep_says_that_nothing_is_left_and_succeeds(local_sagemaker: LocalSageMaker, tmp_path: Path) -> None:
    for options in ([], ["--delete"]):
        done = run(local_sagemaker, tmp_path, "sweep", "--endpoint", "nothing-here", *options)
        assert done.returncode == 0, done.stderr
        assert "There is no endpoint 'nothing-here' in us-east-1" in done.stdout
        assert "nothing to remove" in done.stdout


def leave(
    server: LocalSageMaker, endpoint: str, namespace: str, content: str, lease: str = "2030-01-01T00:00:00Z"
) -> dict[str, str]:
    """A configuration and a model, named as those that a deploy makes for an endpoint, and no endpoint."""
    sagemaker = client(server, "sagemaker")
    tags = make_tags({"namespace": namespace, "lease-until": lease})
    names = {kind: content_name(endpoint, [kind, content]) for kind in ("EndpointConfig", "Model")}
    sagemaker.create_model(**{**model(server), "ModelName": names["Model"], "Tags": tags})
    variants = [variant(names["Model"])]
    sagemaker.create_endpoint_config(EndpointConfigName=names["EndpointConfig"], ProductionVariants=variants, Tags=tags)
    return names


@pytest.mark.parametrize("length", [20, 63], ids=["short", "cut"])
def test_sweep_finds_and_deletes_what_is_left_of_an_endpoint_that_is_gone(
    local_sagemaker: LocalSageMaker, tmp_path: Path, length: int
) -> None:
    name = unique("x" * (length - 11))
    ours = leave(local_sagemaker, name, "default", "ours")
    others = leave(local_sagemaker, name, "others", "others")
    longer = [leave(local_sagemaker, each, "default", "longer") for each in (f"a-{name}", f"{name}-abcdefghijkl")]
    sagemaker = client(local_sagemaker, "sagemaker")

    listed = run(local_sagemaker, tmp_path, "sweep", "--endpoint", name)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.splitlines() == [
        f"There is no endpoint {name!r}; of it are left:",
        *(f"{kind} {each}" for kind, each in ours.items()),
        "lease until: 2030-01-01T00:00:00Z; nothing deleted, add --delete",
    ]
    assert there(sagemaker, ours) == ["EndpointConfig", "Model"]

    done = run(local_sagemaker, tmp_path, "sweep", "--endpoint", name, "--delete")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"deleted {kind} {each}" for kind, each in ours.items()]
    assert there(sagemaker, ours) == []
    for names in (others, *longer):
        assert there(sagemaker, names) == ["EndpointConfig", "Model"]

    again = run(local_sagemaker, tmp_path, "sweep", "--endpoint", name, "--delete")
    assert (again.returncode, "nothing to remove" in again.stdout) == (0, True)


def test_sweep_deletes_earlier_versions_with_an_endpoint(
    local_sagemaker: LocalSageMaker, kept: dict[str, str], tmp_path: Path
) -> None:
    earlier = leave(local_sagemaker, kept["Endpoint"], "default", "earlier")
    done = run(local_sagemaker, tmp_path, "sweep", "--endpoint", kept["Endpoint"], "--delete")
    assert done.returncode == 0, done.stderr
    sagemaker = client(local_sagemaker, "sagemaker")
    assert there(sagemaker, kept) == there(sagemaker, earlier) == []


def test_sweep_leaves_what_was_made_for_another_endpoint(local_sagemaker: LocalSageMaker, tmp_path: Path) -> None:
    sagemaker = client(local_sagemaker, "sagemaker")
    name, others = unique("mixed"), leave(local_sagemaker, unique("other"), "default", "shared")
    own, tags = content_name(name, "config"), make_tags({"namespace": "default"})
    sagemaker.create_endpoint_config(EndpointConfigName=own, ProductionVariants=[variant(others["Model"])], Tags=tags)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=own, Tags=tags)
    done = run(local_sagemaker, tmp_path, "sweep", "--endpoint", name, "--delete")
    assert done.stdout.splitlines() == [f"deleted Endpoint {name}", f"deleted EndpointConfig {own}"], done.stderr
    assert there(sagemaker, others) == ["EndpointConfig", "Model"]


@pytest.fixture
def namespace() -> str:
    """One that no other test has."""
    return unique("ns")


def expired(server: LocalSageMaker, namespace: str, hours: int = -1) -> list[str]:
    """A configuration and a model whose lease ends so many hours from now; their titles."""
    tags_until = (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")
    names = leave(server, f"left-{unique('x')[-10:]}", namespace, "content", tags_until)
    return [f"{kind} {name}" for kind, name in names.items()]


def there_of(server: LocalSageMaker, titles: list[str]) -> int:
    """How many still exist."""
    return len(there(client(server, "sagemaker"), dict(title.split() for title in titles)))


def test_sweep_without_an_endpoint_lists_what_carries_the_namespace_and_deletes_nothing_unless_told(
    local_sagemaker: LocalSageMaker, tmp_path: Path, namespace: str
) -> None:
    titles = expired(local_sagemaker, namespace)
    done = run(local_sagemaker, tmp_path, "sweep", "--namespace", namespace)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[:-1]] == titles
    assert lines[-1] == "2 of 2 expired; nothing deleted, add --delete"
    assert there_of(local_sagemaker, titles) == 2


def test_sweep_deletes_what_has_expired_keeps_the_rest_and_writes_down_when(
    local_sagemaker: LocalSageMaker, tmp_path: Path, namespace: str
) -> None:
    titles, leased = expired(local_sagemaker, namespace), expired(local_sagemaker, namespace, 1)
    others = expired(local_sagemaker, f"{namespace}x")
    done = run(local_sagemaker, tmp_path, "sweep", "--namespace", namespace, "--delete", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert (record["schema"], record["deleted"], record["kept"], record["failed"]) == (1, titles, leased, [])
    assert [there_of(local_sagemaker, each) for each in (titles, leased, others)] == [0, 2, 2]
    key = f"sm-git/sweeps/us-east-1/{namespace}.json"
    body = client(local_sagemaker, "s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    assert json.loads(body)["swept_at"] == record["swept_at"]
    assert list(tmp_path.iterdir()) == [], "no Airflow, no folder"


def test_sweep_takes_what_is_older_than_asked(local_sagemaker: LocalSageMaker, tmp_path: Path, namespace: str) -> None:
    titles = expired(local_sagemaker, namespace, 1)
    command = ("sweep", "--namespace", namespace, "--delete", "--older-than")
    assert "0 deleted, 2 kept" in run(local_sagemaker, tmp_path, *command, "1h").stdout
    time.sleep(1.1)
    assert "2 deleted, 0 kept" in run(local_sagemaker, tmp_path, *command, "1").stdout
    assert there_of(local_sagemaker, titles) == 0


def test_sweep_that_could_not_delete_all_says_why_and_ends_with_one(
    local_sagemaker: LocalSageMaker, tmp_path: Path, namespace: str
) -> None:
    titles = expired(local_sagemaker, namespace)
    model_name = titles[1].split()[1]
    with local_sagemaker.fault("denied", action="DeleteModel", resource=model_name, times=0):
        done = run(local_sagemaker, tmp_path, "sweep", "--namespace", namespace, "--delete")
    assert done.returncode == 1
    assert "not authorized to perform: sagemaker:DeleteModel" in done.stderr
    assert len(done.stderr.splitlines()) == 1, "no traceback"
    assert "1 deleted, 1 kept" in done.stdout
    key = f"sm-git/sweeps/us-east-1/{namespace}.json"
    assert "Contents" not in client(local_sagemaker, "s3").list_objects_v2(Bucket=BUCKET, Prefix=key)


def test_sweep_that_may_not_list_names_the_action_and_deletes_nothing(
    local_sagemaker: LocalSageMaker, tmp_path: Path, namespace: str
) -> None:
    titles = expired(local_sagemaker, namespace)
    with local_sagemaker.fault("denied", action="ListModels", times=0):
        done = run(local_sagemaker, tmp_path, "sweep", "--namespace", namespace, "--delete")
    assert done.returncode == 1
    assert "sagemaker:ListModels" in done.stderr and "AWS_PROFILE" in done.stderr
    assert there_of(local_sagemaker, titles) == 2


def test_sweep_whose_mark_cannot_be_written_warns_and_succeeds(
    local_sagemaker: LocalSageMaker, tmp_path: Path, namespace: str
) -> None:
    nowhere = ("--s3-uri-prefix", "s3://there-is-no-such-bucket/x")
    done = run(local_sagemaker, tmp_path, "sweep", "--namespace", namespace, "--delete", *nowhere)
    assert done.returncode == 0
    assert "leaves no mark" in done.stderr
    assert done.stdout == f"There is nothing in us-east-1 that carries the namespace {namespace!r}.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--older-than", "soon"], "--older-than='soon': is not a duration"),
        (["--older-than", ""], "--older-than='': is not a duration"),
        (["--endpoint", "x", "--older-than", "1d"], "--endpoint goes with neither"),
        (["--endpoint", "x", "--json"], "--endpoint goes with neither"),
    ],
)
def test_sweep_refuses_what_it_does_not_understand_before_it_asks_aws(
    local_sagemaker: LocalSageMaker, tmp_path: Path, arguments: list[str], said: str
) -> None:
    begun = len(local_sagemaker.requests())
    done = run(local_sagemaker, tmp_path, "sweep", "--delete", *arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert local_sagemaker.requests()[begun:] == []


KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-key"}
REGION = {"AWS_DEFAULT_REGION": "us-east-1"}
TO_LOCAL = 'eval "$(airflow-sm-git local env)"'


@pytest.mark.parametrize(
    ("variables", "said", "remedy"),
    [
        (KEYS, "specify a region", ("AWS_DEFAULT_REGION", "AWS_PROFILE", TO_LOCAL)),
        (REGION, "Unable to locate credentials", ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", TO_LOCAL)),
        (
            {**REGION, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE"},
            "Partial credentials",
            ("AWS_PROFILE", "AWS_SECRET_ACCESS_KEY", TO_LOCAL),
        ),
        ({**REGION, "AWS_PROFILE": "absent"}, "(absent)", ("AWS_PROFILE", "list-profiles", TO_LOCAL)),
        ({**REGION, **KEYS, "AWS_ENDPOINT_URL": "localhost"}, "Invalid endpoint", ("AWS_*", TO_LOCAL)),
        (
            {**REGION, **KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
            "Could not connect",
            ("AWS_ENDPOINT_URL", "airflow-sm-git local start"),
        ),
    ],
    ids=["region", "credentials", "half of them", "profile", "address", "server"],
)
def test_sweep_says_what_the_environment_lacks_and_what_to_set(
    tmp_path: Path, variables: dict[str, str], said: str, remedy: tuple[str, ...]
) -> None:
    alone = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **alone, **variables}
    done = subprocess.run(
        [PROGRAM, "sweep", "--endpoint", "any"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (1, "")
    for text in (said, *remedy):
        assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1, "no traceback"


def test_sweep_with_keys_that_are_refused_speaks_of_the_environment(
    local_sagemaker: LocalSageMaker, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **local_sagemaker.env, **KEYS}
    done = subprocess.run(
        [PROGRAM, "sweep", "--endpoint", "any"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "AWS_ACCESS_KEY_ID" in done.stderr and TO_LOCAL in done.stderr
    assert len(done.stderr.splitlines()) == 1, "no traceback"


def test_a_taken_port_is_named_with_the_remedy(local_sagemaker: LocalSageMaker, tmp_path: Path) -> None:
    done = run(local_sagemaker, tmp_path, "local", "start", "--port", str(local_sagemaker.info.port))
    assert done.returncode == 1
    assert str(local_sagemaker.info.port) in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["demo", "local", "sweep", "trace"])
def test_every_command_explains_itself(local_sagemaker: LocalSageMaker, tmp_path: Path, command: str) -> None:
    done = run(local_sagemaker, tmp_path, command, "--help")
    assert done.returncode == 0
    assert f"airflow-sm-git {command}" in done.stdout
    assert list(tmp_path.iterdir()) == [], "asking for help makes no folder"


@pytest.fixture(scope="module")
def scene(
    airflow_database: None, local_sagemaker: LocalSageMaker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """A run of the chain that has kept its endpoint."""
    with play(local_sagemaker, tmp_path_factory.mktemp("scene")) as scene:
        yield scene


def trace(server: LocalSageMaker, home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Trace where Airflow has no database, and cannot even be imported."""
    program = "import sys; sys.modules['airflow'] = None; from airflow_sm_git.cli import main; sys.exit(main())"
    aws = {name: value for name, value in server.env.items() if name.startswith("AWS_")}
    airflow = {"AIRFLOW_HOME": str(home / "no-airflow")}
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), **aws, **airflow, **more}
    command = [sys.executable, "-c", program, "trace", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, encoding="utf-8")
    assert list(home.iterdir()) == [], "Airflow is neither needed nor set up"
    return done


def test_trace_leads_from_an_endpoint_to_its_commits_with_no_airflow_at_all(
    local_sagemaker: LocalSageMaker, scene: Scene, tmp_path: Path
) -> None:
    done = trace(local_sagemaker, tmp_path, scene.endpoint, "--verify")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = [line.strip(" │├└─") for line in done.stdout.splitlines()]
    records = scene.records
    in_order = [
        f"endpoint {scene.endpoint}",
        f"endpoint configuration {records['deploy']['endpoint_config_name']}",
        "variant AllTraffic",
        f"model {records['deploy']['model_name']}",
        f"training job {records['train']['job_name']}",
        f"package {records['package']['s3_uri']}",
        f"commit {scene.commit}",
        f"repo: {scene.repository.url}",
    ]
    found = [len(lines) - 1 - lines[::-1].index(each) for each in in_order]
    assert found == sorted(found), "each below what came of it"
    assert sum(f"run {scene.run.run_id}" in line for line in lines) == 4, "endpoint, configuration, model, job"
    assert lines[-1].endswith("comparisons, all equal.")


def test_trace_gives_json(local_sagemaker: LocalSageMaker, scene: Scene, tmp_path: Path) -> None:
    uri = scene.records["package"]["s3_uri"]
    done = trace(local_sagemaker, tmp_path, uri, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["asked"], answer["verified"]) == (1, uri, None)
    assert answer["tree"]["children"][0]["name"] == scene.commit
    verified = trace(local_sagemaker, tmp_path, uri, "--json", "--verify")
    assert json.loads(verified.stdout)["verified"] is True


def test_trace_with_verify_ends_with_1_where_a_package_was_tampered_with(
    local_sagemaker: LocalSageMaker, scene: Scene, tmp_path: Path
) -> None:
    with replaced(local_sagemaker, scene.records["package"]["s3_uri"], lambda body: body[::-1]):
        assert trace(local_sagemaker, tmp_path, scene.endpoint).returncode == 0, "nobody asked for the bytes"
        done = trace(local_sagemaker, tmp_path, scene.endpoint, "--verify")
        asked_in_json = trace(local_sagemaker, tmp_path, scene.endpoint, "--verify", "--json")
    assert (done.returncode, asked_in_json.returncode) == (1, 1)
    assert "NOT verified" in done.stdout
    assert f"commit {scene.commit}" in done.stdout, "the tree is shown all the same"


@pytest.mark.parametrize("asked", ["no-such-name", "s3://no-such-bucket-anywhere/sourcedir.tar.gz", "not a name"])
def test_trace_of_what_does_not_exist_ends_with_1_and_says_so_in_one_line(
    local_sagemaker: LocalSageMaker, tmp_path: Path, asked: str
) -> None:
    done = trace(local_sagemaker, tmp_path, asked)
    assert (done.returncode, done.stdout) == (1, "")
    assert asked in done.stderr
    assert len(done.stderr.splitlines()) == 1, "no traceback"


def test_trace_can_be_read_where_only_ascii_can_be_written(
    local_sagemaker: LocalSageMaker, scene: Scene, tmp_path: Path
) -> None:
    done = trace(local_sagemaker, tmp_path, scene.endpoint, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert scene.commit in done.stdout


def test_trace_without_credentials_says_what_to_set(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", **REGION}
    done = subprocess.run([PROGRAM, "trace", "any"], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert "AWS_PROFILE" in done.stderr and TO_LOCAL in done.stderr
    assert len(done.stderr.splitlines()) == 1, "no traceback"
