"""What is there that a sweep may have to decide about: ours, and what of others may use ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core import errors
from airflow_sm_git.core.lease import ORDER, Seen, is_ours, whole_tag
from airflow_sm_git.core.names import content_base, read_tags

RunState = Callable[[str, str], str]
"""From a DAG's and a run's id to what Airflow says of the run: `core.lease.ALIVE`, `ENDED`, `GONE`, or empty."""

# What `core.names` ends its names with. An endpoint may have any name: a standing one's is the user's.
_HASHED = re.compile(r"(?:.*-)?[a-z2-7]{12}")
_FORMS = {"TrainingJob": re.compile(r"(?:.*-)?[a-z2-7]{12}-\d+"), "EndpointConfig": _HASHED, "Model": _HASHED}


class Survey:
    """Looks at what is in one region.

    :param namespace: of what is ours.
    :param run_state: asks Airflow for the run of a running job; None where there is no Airflow.

    ``trouble`` collects what could not be looked at; nothing of it is taken for ours.
    """

    def __init__(self, client: SageMakerClient, namespace: str, run_state: RunState | None = None) -> None:
        self._client = client
        self._namespace = namespace
        self._run_state = run_state
        self.trouble: list[str] = []
        self._users: dict[tuple[str, datetime], list[Seen]] = {}

    def all(self) -> list[Seen]:
        """Everything of ours; where configurations or models are among it, what uses them too, whosever that is.

        One call per endpoint and per name that has our form, for its tags, besides the listings.

        :raises AwsError: a listing was refused.
        """
        listed = {kind: list(self._listed(kind)) for kind in ORDER}
        endpoints = listed.pop("Endpoint")
        found = [seen for each in listed.values() for seen in each if is_ours(seen, self._namespace)]
        if any(seen.kind != "TrainingJob" for seen in found):
            endpoints = [self.with_uses(endpoint) for endpoint in endpoints]
            found = [self.with_uses(seen) if seen.kind == "EndpointConfig" else seen for seen in found]
            found += self.used_configs(endpoints, found)
        return [*endpoints, *found]

    def look(self, kind: str, name: str) -> Seen | None:
        """One resource as it is now, with its tags; None if it is gone.

        :raises AwsError: it, or its tags, could not be looked at.
        """
        answer = self._client.describe(kind, name)
        if answer is None:
            return None
        try:
            tags = read_tags(self._client.tags(answer[f"{kind}Arn"]))
        except errors.NotFound:  # it has gone since
            return None
        status = str(answer.get(f"{kind}Status", ""))
        return self._with_run(Seen(kind, name, answer["CreationTime"], tags, status, _uses(kind, answer)))

    def users_since(self, moment: datetime) -> list[Seen]:
        """The endpoints that changed since a time, with their configurations, as they are now."""
        found = []
        for item in self._client.summaries("Endpoint", LastModifiedTimeAfter=moment, MaxResults=100):
            name, state = item["EndpointName"], (item["EndpointArn"], item["LastModifiedTime"])
            if state not in self._users:
                endpoint = self.with_uses(Seen("Endpoint", name, item["CreationTime"]))
                self._users[state] = [endpoint, *self.used_configs([endpoint], [])]
            found += self._users[state]
        return found

    def with_uses(self, seen: Seen) -> Seen:
        """The same, with what it uses now; nothing if it is gone."""
        try:
            answer = self._client.describe(seen.kind, seen.name)
        except errors.AwsError as error:
            self.trouble.append(str(error))
            return replace(seen, uses=None)
        return replace(seen, uses=_uses(seen.kind, answer) if answer else ())

    def used_configs(self, endpoints: Iterable[Seen], known: Iterable[Seen]) -> list[Seen]:
        """The configurations that endpoints use, besides the known ones, whosever they are.

        Where one is gone though an endpoint still serves it, what it used is told by the names of our models.
        """
        known = list(known)
        names = {seen.name for seen in known if seen.kind == "EndpointConfig"}
        models = [seen.name for seen in known if seen.kind == "Model"]
        wanted = {name: each for each in endpoints for name in each.uses or () if name not in names}
        found = []
        for name, endpoint in wanted.items():
            seen = self.with_uses(Seen("EndpointConfig", name, endpoint.created))
            guess = tuple(model for model in models if model.startswith(f"{content_base(endpoint.name)}-"))
            found.append(replace(seen, uses=guess) if seen.uses == () else seen)
        return found

    def _listed(self, kind: str) -> Iterable[Seen]:
        form = _FORMS.get(kind)
        running: dict[str, Any] = {"StatusEquals": "InProgress"} if kind == "TrainingJob" else {}
        for item in self._client.summaries(kind, MaxResults=100, **running):
            name = item[f"{kind}Name"]
            if form is None or form.fullmatch(name):
                tags = self._tags(f"{kind} {name}", item[f"{kind}Arn"])
                status = str(item.get(f"{kind}Status", ""))
                yield self._with_run(Seen(kind, name, item["CreationTime"], tags, status))

    def _tags(self, what: str, arn: str) -> dict[str, str]:
        try:
            return read_tags(self._client.tags(arn))
        except errors.NotFound:  # it went since it was listed
            return {}
        except errors.AwsError as error:
            self.trouble.append(f"Whose {what} is cannot be told: {error}")
            return {}

    def _with_run(self, seen: Seen) -> Seen:
        dag, run = whole_tag(seen.tags.get("dag")), whole_tag(seen.tags.get("run"))
        if self._run_state is None or seen.kind != "TrainingJob" or not is_ours(seen, self._namespace):
            return seen
        return replace(seen, run=self._run_state(dag, run)) if dag and run else seen


def _uses(kind: str, answer: dict[str, Any]) -> tuple[str, ...] | None:
    """What a resource needs, by Describe's answer: while it is being updated, the old and the new.

    None for a configuration with a variant that names no model: the models are those of the inference components that
    are put on its endpoint, which may be any.
    """
    if kind == "Endpoint":
        pending = answer.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        return tuple(name for name in (answer.get("EndpointConfigName"), pending) if name)
    if kind == "EndpointConfig":
        variants = [*answer.get("ProductionVariants", []), *answer.get("ShadowProductionVariants", [])]
        return tuple(v["ModelName"] for v in variants) if all(v.get("ModelName") for v in variants) else None
    return ()
