"""Where something came from, asked of AWS alone: endpoint → live configuration → models → jobs → packages → commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_sm_git.clients.environment_aws import boto_client, remedies_of_the_environment, sagemaker_client
from airflow_sm_git.clients.s3 import Store
from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.clients.trace_objects import Objects
from airflow_sm_git.clients.trace_verify import verify_tree
from airflow_sm_git.core import errors
from airflow_sm_git.core import trace_reading as reading
from airflow_sm_git.core.names import MODEL_ETAG, TAG_PREFIX, read_tags
from airflow_sm_git.core.trace import Node, Trace

END_OF_NAME = 12
"""Characters of a name in which all letters of ours are small."""
_STRANGE = f"it carries no tags {TAG_PREFIX}*: it was not made by this package, or somebody removed them"


def trace(asked: str, *, verify: bool = False) -> Trace:
    """Walk from a resource or an object back to the commit, with the environment's credentials.

    :param asked: the name or ARN of an endpoint, an endpoint configuration, a model or a training job, or the S3 URI of
        a package, of its manifest, or of a model's archive.
    :param verify: download packages, manifests and archives, and hold them against what the tags say.
    :raises BadParameter: `asked` is none of these.
    :raises NotFound: there is no such thing.
    :raises AwsError: AWS cannot be asked, or refused; with what to set in the environment.
    """
    target = reading.read_target(asked)
    with remedies_of_the_environment():
        client = sagemaker_client(target.region)
        store = Store(boto_client("s3", target.region), "s3://any-bucket")
        found = Walk(client, Objects(store)).trace(asked, target)
        if verify:
            found.is_verified = True
            verify_tree(found.tree, store)
        return found


class Walk:
    """One walk. What is missing on the way, or may not be seen, is a problem of the node where it is missing."""

    def __init__(self, client: SageMakerClient, objects: Objects) -> None:
        self._client = client
        self._objects = objects
        self._nodes: dict[str, Callable[[dict[str, Any]], Node]] = {
            "Endpoint": self._endpoint,
            "EndpointConfig": self._config,
            "Model": self._model,
            "TrainingJob": self._job,
        }

    def trace(self, asked: str, target: reading.Target) -> Trace:
        """Walk from a target.

        :raises NotFound: there is no such thing.
        """
        if target.uri is not None:
            return Trace(asked, self._client.region, self._object(target.uri))
        found = self._found(target)
        if not found:
            what = "endpoint, endpoint configuration, model or training job"
            raise errors.NotFound(
                f"There is no {what} {asked!r} in {self._client.region}.", "Check the name, the region and the account."
            )
        also = [(kind, str(answer[f"{kind}Name"])) for kind, answer in found[1:]]
        kind, answer = found[0]
        return Trace(asked, self._client.region, self._nodes[kind](answer), also)

    def _found(self, target: reading.Target) -> list[tuple[str, dict[str, Any]]]:
        """Kind and description of all that a target may mean.

        :raises AccessDenied: what may be seen is not it, and some may not be seen.
        """
        found, denied = [], None
        for kind in (target.kind,) if target.kind else reading.KINDS:
            try:
                answer = self._client.describe(kind, target.name) or self._in_other_letters(kind, target)
            except errors.AccessDenied as error:
                denied = denied or error
                continue
            # Another account may have the name too.
            if answer and (target.arn is None or answer[f"{kind}Arn"].lower() == target.arn.lower()):
                found.append((kind, answer))
        if denied and not found:
            raise denied
        return found

    def _in_other_letters(self, kind: str, target: reading.Target) -> dict[str, Any] | None:
        """What has an ARN whose letters are small, as SageMaker writes ARNs, and a name whose letters are not.

        Our names end in a hash of small letters and digits, which finds them.
        """
        end = target.name[-END_OF_NAME:]
        names = self._client.names(kind, end) if target.arn else []
        name = next((name for name in names if name.lower() == target.name.lower()), None)
        return self._client.describe(kind, name) if name else None

    def _object(self, uri: str) -> Node:
        if not self._objects.is_there(uri):
            raise errors.NotFound(f"There is no object at {uri}.", "Check the URI, the region and the account.")
        if reading.commit_in(uri):
            return self._objects.manifest(uri)
        if uri.endswith("/sourcedir.tar.gz"):
            return self._objects.package(uri, {})
        return self._data(uri, with_package=True)

    def _endpoint(self, answer: dict[str, Any]) -> Node:
        node, tags = self._resource("Endpoint", answer, {"status": answer["EndpointStatus"]})
        node.facts |= reading.code(tags, {})[0]
        node.notes += reading.endpoint_notes(answer)
        live = {each["VariantName"]: each for each in answer.get("ProductionVariants", [])}
        config = self._follow(
            node, "EndpointConfig", answer["EndpointConfigName"], lambda found: self._config(found, live)
        )
        models = [each for each in config.walk() if each.kind == "Model"] if config else []
        for key in reading.CODE:
            served = {str(model.facts.get(key, "none")) for model in models}
            if key in tags and served and not any(reading.says(tags[key], each) for each in served):
                node.problems.append(f"its tag says {key} {tags[key]}, but it serves {', '.join(sorted(served))}")
        return node

    def _config(self, answer: dict[str, Any], live: Mapping[str, Any] | None = None) -> Node:
        node, _ = self._resource("EndpointConfig", answer, {})
        for shadow, member in ((False, "ProductionVariants"), (True, "ShadowProductionVariants")):
            for variant in answer.get(member, []):
                node.children.append(self._variant(variant, (live or {}).get(variant["VariantName"], {}), shadow))
        return node

    def _variant(self, variant: dict[str, Any], live: Mapping[str, Any], shadow: bool) -> Node:
        facts = {
            "weight": live.get("CurrentWeight", variant.get("InitialVariantWeight")),
            "instances": live.get("CurrentInstanceCount", variant.get("InitialInstanceCount")),
            "instance_type": variant.get("InstanceType"),
            "shadow": "yes" if shadow else None,
        }
        node = Node("Variant", variant["VariantName"], facts)
        if variant.get("ModelName"):
            self._follow(node, "Model", variant["ModelName"], self._model)
        else:
            node.problems.append("it names no model, so it cannot be followed")
        return node

    def _model(self, answer: dict[str, Any]) -> Node:
        node, tags = self._resource("Model", answer, {})
        node.facts["model_etag"] = tags.get(MODEL_ETAG)
        containers = reading.containers(answer)
        environment = {key: text for each in containers for key, text in each.get("Environment", {}).items()}
        given = {uri for each in containers if (uri := reading.hosting_package(each))}
        self._add_code(node, tags, environment, given)
        for container in containers:
            if (uri := reading.container_data(container)) is not None:
                node.children.append(self._data(uri))
            if "ModelPackageName" in container:
                node.problems.append(f"it is of {container['ModelPackageName']}, which is not followed")
        if (
            "package" in node.facts
            and not given
            and not any(each.facts.get("package_digest") for each in node.children)
        ):
            node.problems.append("its tags name a package, but no archive of it says that one was put into it")
        return node

    def _job(self, answer: dict[str, Any]) -> Node:
        node, tags = self._resource("TrainingJob", answer, {"status": answer["TrainingJobStatus"]})
        node.facts["model_data"] = answer.get("ModelArtifacts", {}).get("S3ModelArtifacts")
        package = reading.training_package(answer)
        self._add_code(node, tags, answer.get("Environment", {}), {package} if package else set())
        return node

    def _resource(self, kind: str, answer: dict[str, Any], facts: dict[str, Any]) -> tuple[Node, dict[str, str]]:
        """A node with what its tags tell of its owner, and its tags."""
        arn, created = answer[f"{kind}Arn"], answer.get("CreationTime")
        node = Node(kind, answer[f"{kind}Name"], {"arn": arn, **facts})
        try:
            tags = read_tags(self._client.tags(arn))
        except (errors.NotFound, errors.AccessDenied) as error:
            node.problems.append(f"its tags cannot be read: {error.what}")
            return node, {}
        if not tags:
            node.problems.append(_STRANGE)
        node.facts |= {"created": created.isoformat(timespec="seconds") if created else None, **reading.ownership(tags)}
        return node, tags

    def _add_code(self, node: Node, tags: Mapping[str, str], environment: Mapping[str, str], given: set[str]) -> None:
        """What a resource runs: the packages that it was given, else the one that its tags name.

        :param given: URIs in the request by which it was made.
        """
        facts, contradictions = reading.code(tags, environment)
        node.facts |= facts
        node.problems += contradictions
        claimed = facts.get("package")
        for uri in sorted(given):
            if claimed and not reading.says(claimed, uri):
                node.problems.append(f"its tag says package {claimed}, but it was given {uri}")
        for uri in sorted(given) or ([claimed] if claimed else []):
            node.children.append(self._objects.package(uri, facts))
        if tags and not node.children:
            node.notes.append("it runs no code of a repository: its image brings its own")

    def _data(self, uri: str, *, with_package: bool = False) -> Node:
        """A model's archive, with the training job that it came from."""
        node, artefact = self._objects.model_data(uri, with_package=with_package)
        if artefact is None:
            return node
        name = reading.job_of(artefact)
        if name is None:
            node.problems.append(f"{artefact} is not the artefact of a training job, to judge by its name")
            return node
        job = self._follow(node, "TrainingJob", name, self._job)
        if job is not None and (job.facts["model_data"] or "").rstrip("/") != artefact.rstrip("/"):
            node.problems.append(f"training job {name} says that its artefact is {job.facts['model_data']}")
        return node

    def _follow(self, node: Node, kind: str, name: str, then: Callable[[dict[str, Any]], Node]) -> Node | None:
        """Go on to a resource that a node names; None if it is gone, or may not be seen."""
        problem = "it is gone: somebody deleted it"
        try:
            answer = self._client.describe(kind, name)
        except errors.AccessDenied as error:
            answer, problem = None, f"it cannot be seen: {error.what}"
        below = then(answer) if answer is not None else Node(kind, name, problems=[problem])
        node.children.append(below)
        return below if answer is not None else None
