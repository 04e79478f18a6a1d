"""The SageMaker API of one server: every action by name, and what starts and stops with the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from airflow_sm_git.local.context import Context
from airflow_sm_git.local.endpoint_configs import (
    create_endpoint_config,
    delete_endpoint_config,
    describe_endpoint_config,
)
from airflow_sm_git.local.endpoints import Endpoints
from airflow_sm_git.local.errors import api_error
from airflow_sm_git.local.faults import Faults
from airflow_sm_git.local.fleet import Fleets
from airflow_sm_git.local.invoke import Invocation, invoke
from airflow_sm_git.local.listing import LISTINGS, list_resources
from airflow_sm_git.local.logs import LogStore
from airflow_sm_git.local.model import ServiceModel
from airflow_sm_git.local.models import create_model, delete_model, describe_model
from airflow_sm_git.local.objects import ObjectStore
from airflow_sm_git.local.state import State
from airflow_sm_git.local.store import Body, Store
from airflow_sm_git.local.tags import add_tags, delete_tags, list_tags
from airflow_sm_git.local.training_jobs import TrainingJobs

Action = Callable[[Mapping[str, Any]], Body]

ACTION_NAMES = (
    "CreateTrainingJob",
    "DescribeTrainingJob",
    "ListTrainingJobs",
    "StopTrainingJob",
    "CreateModel",
    "DescribeModel",
    "ListModels",
    "DeleteModel",
    "CreateEndpointConfig",
    "DescribeEndpointConfig",
    "ListEndpointConfigs",
    "DeleteEndpointConfig",
    "CreateEndpoint",
    "DescribeEndpoint",
    "ListEndpoints",
    "UpdateEndpoint",
    "UpdateEndpointWeightsAndCapacities",
    "DeleteEndpoint",
    "AddTags",
    "ListTags",
    "DeleteTags",
)
"""The actions of the SageMaker API that the local server answers."""


class Control:
    """SageMaker, as far as the local server has it.

    :param state: where resources are kept and processes have their directories.
    :param objects: S3.
    :param logs: CloudWatch Logs.
    :param faults: what shall go wrong with jobs and endpoints.
    :raises ValueError: the state has no coordinates (``State.write_info``) yet.
    """

    def __init__(self, state: State, objects: ObjectStore, logs: LogStore, faults: Faults | None = None) -> None:
        info = state.load_info()
        if info is None:
            raise ValueError(f"{state.info} is missing: write it before building the server.")
        self.store = Store(state.database)
        self._context = Context(state, self.store, objects, logs, info, faults or Faults())
        self._model = ServiceModel("sagemaker", ACTION_NAMES)
        self._fleets = Fleets()
        self._jobs = TrainingJobs(self._context)
        self._endpoints = Endpoints(self._context, self._fleets)
        self._actions = self._table()

    def start(self) -> None:
        """Take up what an earlier server left: end its jobs, bring its endpoints up again."""
        self._jobs.recover()
        self._endpoints.recover()

    def stop(self) -> None:
        """End every process. Jobs that ran are Failed then; endpoints come up again at the next start."""
        self._context.faults.remove()
        self._endpoints.close()
        self._jobs.close()
        self._context.store.close()

    def handle(self, action: str, body: Mapping[str, Any], copy: Store | None = None) -> Body:
        """Answer one action; times in the answer are seconds since the epoch.

        :param action: for instance ``CreateTrainingJob``.
        :param body: the decoded request.
        :param copy: resources to list instead of those that there are.
        :raises ApiError: SageMaker would refuse it, or the local server does not know the action.
        """
        answer = self._actions.get(action)
        if answer is None:
            raise api_error("json.unknown_action")
        request = self._model.validate(action, body)
        if copy is not None and action in LISTINGS:
            return list_resources(copy, LISTINGS[action], request)
        return answer(request)

    def invoke(self, endpoint: str, headers: Mapping[str, str], body: bytes) -> Invocation:
        """Answer InvokeEndpoint.

        :param headers: of the request, names in lower case.
        :raises ApiError: there is no such endpoint in service, or its model failed.
        """
        return invoke(self._context, self._fleets, endpoint, headers, body)

    def _table(self) -> Mapping[str, Action]:
        jobs, endpoints = self._jobs, self._endpoints
        plain = (
            *(create_model, describe_model, delete_model),
            *(create_endpoint_config, describe_endpoint_config, delete_endpoint_config),
            *(add_tags, list_tags, delete_tags),
        )
        actions: dict[str, Action] = {_camel(function.__name__): partial(function, self._context) for function in plain}
        for name, listing in LISTINGS.items():
            actions[name] = partial(list_resources, self._context.store, listing)
        actions |= {
            "CreateTrainingJob": jobs.create,
            "DescribeTrainingJob": jobs.describe,
            "StopTrainingJob": jobs.stop,
            "CreateEndpoint": endpoints.create,
            "DescribeEndpoint": endpoints.describe,
            "UpdateEndpoint": endpoints.update,
            "UpdateEndpointWeightsAndCapacities": endpoints.update_weights,
            "DeleteEndpoint": endpoints.delete,
        }
        return actions


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
