"""From an endpoint, and from all that is behind it, back to the commit: by what AWS holds alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.clients.trace import trace
from airflow_sm_git.core import errors
from airflow_sm_git.core.names import content_name, make_tags
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Runner
from tests.clients.traces import Scene, deleted, node, nodes
from tests.local.sagemaker_requests import (
    BUCKET,
    IMAGE,
    ROLE,
    client,
    config,
    model,
    put,
    settled,
    training_job,
    unique,
    variant,
)

pytestmark = pytest.mark.usefixtures("aws_environment")
STRANGE = "it carries no tags sm-git:*"


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


@pytest.fixture
def sagemaker(server: LocalSageMaker) -> Any:
    return client(server, "sagemaker")


@pytest.fixture
def kept(server: LocalSageMaker) -> Iterator[list[str]]:
    """Endpoints to be removed afterwards."""
    names: list[str] = []
    yield names
    for name in names:
        steps.clean_up(server, name)


def kinds(found: Any) -> list[str]:
    return [each.kind for each in found.tree.walk()]


PACKAGE = ["Package", "Commit"]
JOB = ["TrainingJob", *PACKAGE]
MODEL = ["Model", *PACKAGE, "ModelData", *JOB]
CONFIG = ["EndpointConfig", "Variant", *MODEL]


def test_an_endpoint_is_followed_to_the_commits_of_what_serves_and_of_what_trained(scene: Scene) -> None:
    found = trace(scene.endpoint)
    records, checkout = scene.records, scene.records["checkout"]
    assert found.problems == []
    assert kinds(found) == ["Endpoint", *CONFIG]
    names = {each.kind: each.name for each in found.tree.walk()}
    assert names == {
        "Endpoint": scene.endpoint,
        "EndpointConfig": records["deploy"]["endpoint_config_name"],
        "Variant": "AllTraffic",
        "Model": records["deploy"]["model_name"],
        "ModelData": scene.model_data,
        "TrainingJob": records["train"]["job_name"],
        "Package": records["package"]["s3_uri"],
        "Commit": scene.commit,
    }
    for commit in nodes(found, "Commit"):
        manifest = records["package"]["manifest_uri"]
        assert commit.facts == {"repo": scene.repository.url, "tree": checkout["tree"], "manifests": [manifest]}
    maker = {"dag": scene.run.dag.dag_id, "run": scene.run.run_id, "namespace": "default", "owner": "airflow"}
    for kind in ("Endpoint", "EndpointConfig", "Model", "TrainingJob"):
        facts = node(found, kind).facts
        assert facts.items() >= maker.items()
        assert facts["lease_until"] >= checkout["committed_at"]
    assert node(found, "Variant").facts["weight"] == 1.0
    assert node(found, "ModelData").facts["made_of"] == records["train"]["model_data"]
    assert found.verified is None


def test_the_arn_of_each_kind_leads_to_the_same_as_its_name(scene: Scene) -> None:
    whole = trace(scene.endpoint)
    for kind, wanted in (("Endpoint", ["Endpoint", *CONFIG]), ("EndpointConfig", CONFIG), ("Model", MODEL)):
        there = node(whole, kind)
        found = trace(there.facts["arn"])
        assert (found.tree.name, kinds(found), found.problems) == (there.name, wanted, [])
        assert trace(there.name).tree == found.tree
    job = node(whole, "TrainingJob")
    assert trace(job.facts["arn"]).tree == trace(job.name).tree == job


def test_an_arn_whose_letters_are_small_leads_to_the_name_whose_letters_are_not(
    server: LocalSageMaker, sagemaker: Any
) -> None:
    """SageMaker writes the names in ARNs in small letters."""
    name = content_name(unique("Nightly-Run"), "model")
    sagemaker.create_model(**{**model(server), "ModelName": name})
    arn = sagemaker.describe_model(ModelName=name)["ModelArn"]
    assert trace(arn).tree.name == trace(arn.lower()).tree.name == name


def test_what_another_account_has_under_the_name_is_not_what_was_asked_for(scene: Scene) -> None:
    arn = node(trace(scene.endpoint), "Endpoint").facts["arn"]
    with pytest.raises(errors.NotFound, match=r"There is no endpoint.*Check the name, the region and the account"):
        trace(arn.replace("000000000000", "999999999999"))


def test_a_name_that_may_not_be_looked_up_is_not_said_to_be_free(server: LocalSageMaker) -> None:
    with (
        server.fault("denied", action="DescribeModel", times=100),
        pytest.raises(errors.AccessDenied, match="sagemaker:DescribeModel"),
    ):
        trace("no-such-name")


def test_a_package_a_manifest_and_models_archives_are_traced_by_their_uris(scene: Scene) -> None:
    package = scene.records["package"]
    found = trace(package["s3_uri"])
    assert (kinds(found), found.problems) == (PACKAGE, [])
    assert node(found, "Commit").name == scene.commit
    assert node(found, "Commit").facts["repo"] == scene.repository.url
    assert node(found, "Package").facts["digest"] == package["digest"]

    found = trace(package["manifest_uri"])
    assert (kinds(found), found.problems) == (["Manifest", *PACKAGE], [])
    facts = found.tree.facts
    assert (facts["commit"], facts["source_dir"], facts["file_count"]) == (scene.commit, "src", 3)

    found = trace(scene.model_data)
    assert (kinds(found), found.problems) == (["ModelData", *PACKAGE, *JOB], [])
    found = trace(scene.records["train"]["model_data"])
    assert (kinds(found), found.problems) == (["ModelData", *JOB], [])


def test_a_package_that_several_commits_share_names_them_all_and_a_job_its_own(airflow: Runner, scene: Scene) -> None:
    from airflow_sm_git import GitCheckoutOperator, PackageSourceOperator

    other = scene.repository.commit({"README": b"not packaged"})
    with airflow.dag() as dag:
        checkout = GitCheckoutOperator(task_id="checkout", repo=scene.repository.url, ref="main")
        PackageSourceOperator(task_id="package", checkout=checkout.output, source_dir="src", entry_point="train.py")
    run = airflow.run(dag)
    assert run.xcom("package")["s3_uri"] == scene.records["package"]["s3_uri"]
    with deleted(scene.server, run.xcom("package")["manifest_uri"]):
        before = trace(scene.records["package"]["s3_uri"])
    found = trace(scene.records["package"]["s3_uri"])
    assert [each.name for each in nodes(before, "Commit")] == [scene.commit]
    assert {each.name for each in nodes(found, "Commit")} == {scene.commit, other}
    assert [each.name for each in nodes(trace(scene.endpoint), "Commit")] == [scene.commit] * 2


def test_a_name_that_several_have_means_the_endpoint_and_the_others_are_named(
    server: LocalSageMaker, sagemaker: Any, kept: list[str]
) -> None:
    name = steps.create_endpoint(server)
    kept.append(name)
    sagemaker.create_training_job(**training_job(server, "", name=name))
    found = trace(name)
    assert found.tree.kind == "Endpoint"
    assert found.also == [(kind, name) for kind in ("EndpointConfig", "Model", "TrainingJob")]


@pytest.mark.parametrize(
    "asked",
    [
        "no-such-name",
        "arn:aws:sagemaker:us-east-1:000000000000:endpoint/no-such-name",
        "arn:aws:sagemaker:us-east-1:000000000000:training-job/no-such-name",
        f"s3://{BUCKET}/no/sourcedir.tar.gz",
        "s3://no-such-bucket-anywhere/model.tar.gz",
    ],
)
def test_what_does_not_exist_is_an_error_that_names_it(scene: Scene, asked: str) -> None:
    with pytest.raises(errors.NotFound, match="There is no ") as caught:
        trace(asked)
    assert asked in str(caught.value)


def test_an_endpoint_that_a_stranger_made_is_shown_as_far_as_it_goes(
    server: LocalSageMaker, sagemaker: Any, kept: list[str]
) -> None:
    name = unique("strange")
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config(server, "one", "two"))
    kept.append(name)
    settled(server, name)
    found = trace(name)
    assert kinds(found) == ["Endpoint", "EndpointConfig", *["Variant", "Model", "ModelData"] * 2]
    for kind in ("Endpoint", "EndpointConfig", "Model"):
        assert all(STRANGE in each.problems[0] for each in nodes(found, kind))
    assert "is not the artefact of a training job" in node(found, "ModelData").problems[0]
    assert trace(name, verify=True).verified is False


def test_the_live_configuration_counts_with_all_its_variants_and_weights(
    server: LocalSageMaker, sagemaker: Any, scene: Scene, kept: list[str]
) -> None:
    data = put(server, steps.archive({"weights.txt": "x", "code/serve.py": steps.SERVE}))
    other = unique("other")
    environment = {"SAGEMAKER_PROGRAM": "serve.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
    sagemaker.create_model(
        ModelName=other,
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": data, "Environment": environment},
        ExecutionRoleArn=ROLE,
        Tags=make_tags({"namespace": "default", "commit": "b" * 40}),
    )
    name = unique("variants")
    variants = [
        variant(scene.records["deploy"]["model_name"], VariantName="a", InitialVariantWeight=3.0),
        variant(other, VariantName="b", InitialVariantWeight=1.0),
    ]
    tags = make_tags({"namespace": "default", "commit": "d" * 40})
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, Tags=tags)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=tags)
    kept.append(name)
    settled(server, name)
    desired = [{"VariantName": "b", "DesiredWeight": 5.0}]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName=name, DesiredWeightsAndCapacities=desired)
    settled(server, name)
    found = trace(name)
    first, second = nodes(found, "Variant")
    assert [(each.name, each.facts["weight"]) for each in (first, second)] == [("a", 3.0), ("b", 5.0)]
    assert [each.children[0].facts["commit"] for each in (first, second)] == [scene.commit, "b" * 40]
    problem = f"its tag says commit {'d' * 40}, but it serves {', '.join(sorted([scene.commit, 'b' * 40]))}"
    assert problem in found.tree.problems


def test_a_standing_endpoint_is_traced_to_its_newest_version_and_after_a_rollback_to_the_old_one(
    airflow: Runner, server: LocalSageMaker, scene: Scene, kept: list[str], tmp_path: Path
) -> None:
    name, job = unique("standing"), scene.records["train"]
    newer = {**scene.records["package"], "commit": "a" * 40}

    def deploy(package: Any, **options: Any) -> Any:
        with airflow.dag() as dag:
            steps.deploy(package=package, training_job=job, endpoint_name=name, **options)
        return airflow.run(dag)

    first = deploy(scene.records["package"])
    kept.append(name)
    assert (first.state, trace(name).problems) == ("success", [])
    second = deploy(newer)
    found = trace(name)
    assert [each.name for each in nodes(found, "Commit")] == ["a" * 40, scene.commit], "what serves, what trained"
    assert (node(found, "Endpoint").facts["run"], "lease_until" in found.tree.facts) == (second.run_id, False)

    third = deploy({**newer, "commit": "f" * 40}, environment={"NEEDS": str(tmp_path / "never")})
    assert third.state == "failed"
    found = trace(name)
    assert node(found, "EndpointConfig").name == second.xcom("deploy")["endpoint_config_name"]
    assert [each.name for each in nodes(found, "Commit")] == ["a" * 40, scene.commit]
    assert "its last change failed" in found.tree.notes[0]
    assert "ping health check" in found.tree.notes[0]


def test_an_endpoint_that_is_being_moved_is_traced_to_what_serves_meanwhile(
    server: LocalSageMaker, sagemaker: Any, kept: list[str], tmp_path: Path
) -> None:
    name, newer, flag = steps.create_endpoint(server), unique("newer"), tmp_path / "flag"
    kept.append(name)
    container = sagemaker.describe_model(ModelName=name)["PrimaryContainer"]
    container["Environment"]["WAIT_FOR"] = str(flag)
    sagemaker.create_model(ModelName=newer, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    sagemaker.create_endpoint_config(EndpointConfigName=newer, ProductionVariants=[variant(newer)])
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=newer)
    try:
        found = trace(name)
        assert (node(found, "EndpointConfig").name, node(found, "Model").name) == (name, name)
        assert f"it is being moved to {newer}" in found.tree.notes[0]
    finally:
        flag.touch()
    settled(server, name)
    assert node(trace(name), "Model").name == newer


@pytest.mark.parametrize("hosting", ["s3", "repack"])
def test_code_that_stays_beside_the_model_is_found_where_the_container_looks_for_it(
    airflow: Runner, server: LocalSageMaker, scene: Scene, kept: list[str], hosting: str
) -> None:
    with airflow.dag() as dag:
        steps.deploy(package=scene.records["package"], training_job=scene.records["train"], hosting=hosting)
    run = airflow.run(dag)
    kept.append(run.xcom("deploy")["endpoint_name"])
    found = trace(kept[0], verify=True)
    assert kinds(found) == ["Endpoint", *CONFIG]
    assert found.verified is True, (found.problems, found.checks)
    assert ("made_of" in node(found, "ModelData").facts) is (hosting == "repack")


def test_the_package_of_a_job_without_network_is_found_in_its_channel(airflow: Runner, scene: Scene) -> None:
    with airflow.dag() as dag:
        steps.train(package=scene.records["package"], enable_network_isolation=True)
    run = airflow.run(dag)
    assert run.state == "success", run.errors
    found = trace(run.xcom("train")["job_name"], verify=True)
    assert (kinds(found), found.verified) == (JOB, True)


def test_a_job_without_code_of_a_repository_says_so_and_that_is_no_problem(airflow: Runner, scene: Scene) -> None:
    with airflow.dag() as dag:
        steps.train(package=None, wait_for_completion=False)
    found = trace(airflow.run(dag).xcom("train")["job_name"])
    assert (kinds(found), found.problems) == (["TrainingJob"], [])
    assert "its image brings its own" in found.tree.notes[0]


def test_what_was_deleted_is_named_where_it_is_missing_and_the_rest_is_shown(
    airflow: Runner, server: LocalSageMaker, sagemaker: Any, scene: Scene, kept: list[str]
) -> None:
    with airflow.dag() as dag:
        steps.deploy(package=scene.records["package"], training_job=scene.records["train"])
    record = airflow.run(dag).xcom("deploy")
    name = record["endpoint_name"]
    kept.append(name)
    with deleted(server, scene.records["package"]["s3_uri"]):
        found = trace(name)
        assert kinds(found) == ["Endpoint", *CONFIG]
        assert [each.problems for each in nodes(found, "Package")] == [["it is gone: there is no such object"]] * 2
    with deleted(server, scene.model_data):
        found = trace(name)
        assert node(found, "ModelData").problems[0] == "it is gone: there is no such object"
    sagemaker.delete_model(ModelName=record["model_name"])
    found = trace(name)
    assert kinds(found) == ["Endpoint", "EndpointConfig", "Variant", "Model"]
    assert node(found, "Model").problems == ["it is gone: somebody deleted it"]
    assert found.tree.facts["commit"] == scene.commit, "the endpoint's own tags still tell"
    sagemaker.delete_endpoint_config(EndpointConfigName=record["endpoint_config_name"])
    found = trace(name)
    assert kinds(found) == ["Endpoint", "EndpointConfig"]
    assert node(found, "EndpointConfig").problems == ["it is gone: somebody deleted it"]
    assert trace(name, verify=True).verified is False


def test_an_artefact_whose_job_is_gone_or_has_another_says_so(
    airflow: Runner, server: LocalSageMaker, scene: Scene
) -> None:
    gone = put(server, b"", f"out/{unique('no-such-job')}/output/model.tar.gz")
    found = trace(gone)
    assert kinds(found) == ["ModelData", "TrainingJob"]
    assert node(found, "TrainingJob").problems == ["it is gone: somebody deleted it"]
    other = put(server, b"", f"other/{scene.records['train']['job_name']}/output/model.tar.gz")
    found = trace(other)
    assert kinds(found) == ["ModelData", *JOB]
    assert f"says that its artefact is {scene.records['train']['model_data']}" in found.tree.problems[0]


@pytest.mark.parametrize(
    ("action", "kind", "problem"),
    [
        ("ListTags", "Endpoint", "its tags cannot be read"),
        ("DescribeModel", "Model", "it cannot be seen"),
        ("DescribeTrainingJob", "TrainingJob", "it cannot be seen"),
        ("HeadObject", "Package", "it cannot be seen"),
        ("ListObjectsV2", "Package", "what lies beside it cannot be listed"),
    ],
)
def test_what_may_not_be_seen_is_named_with_the_action_and_the_rest_is_shown(
    server: LocalSageMaker, scene: Scene, action: str, kind: str, problem: str
) -> None:
    with server.fault("denied", action=action, times=100):
        found = trace(scene.endpoint)
    assert any(problem in each and action in each for each in node(found, kind).problems), node(found, kind)
    assert node(found, "EndpointConfig").children
