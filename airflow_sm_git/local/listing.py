"""The List actions: filters, sorting, and pages that stay right while resources come and go."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_git.local.errors_sagemaker import refuse
from airflow_sm_git.local.store import ENDPOINT, ENDPOINT_CONFIG, MODEL, TRAINING_JOB, Body, Kind, Store

_DEFAULT_PAGE = 10  # SageMaker API reference, ListTrainingJobs, MaxResults
_COLUMNS = {"Name": "name", "CreationTime": "created", "LastModifiedTime": "modified", "Status": "status"}
_FILTERS = {
    "NameContains": "instr(name, ?) > 0",
    "StatusEquals": "status = ?",
    "CreationTimeAfter": "created >= ?",
    "CreationTimeBefore": "created < ?",
    "LastModifiedTimeAfter": "modified >= ?",
    "LastModifiedTimeBefore": "modified < ?",
    "WarmPoolStatusEquals": "json_extract(body, '$.WarmPoolStatus.Status') = ?",
    "TrainingPlanArnEquals": "json_extract(body, '$.ResourceConfig.TrainingPlanArn') = ?",
}


@dataclass(frozen=True)
class Listing:
    """How one List action answers.

    :param kind: what is listed.
    :param result: member that holds the summaries.
    :param members: members of a summary.
    :param order: the order where the request names none (SageMaker API reference, SortOrder of the action).
    :param nested: members of a summary that lie deeper in the body, with the member they lie in.
    """

    kind: Kind
    result: str
    members: tuple[str, ...]
    order: str = "Descending"
    nested: Mapping[str, str] = field(default_factory=dict)

    def summary(self, body: Body) -> Body:
        """The entry of one resource."""
        entry = {name: body[name] for name in self.members if name in body}
        for name, parent in self.nested.items():
            if name in body.get(parent, {}):
                entry[name] = body[parent][name]
        return entry


LISTINGS: Mapping[str, Listing] = {
    "ListTrainingJobs": Listing(
        TRAINING_JOB,
        "TrainingJobSummaries",
        (
            "TrainingJobName",
            "TrainingJobArn",
            "CreationTime",
            "TrainingEndTime",
            "LastModifiedTime",
            "TrainingJobStatus",
            "SecondaryStatus",
            "WarmPoolStatus",
        ),
        order="Ascending",
        nested={"TrainingPlanArn": "ResourceConfig"},
    ),
    "ListModels": Listing(MODEL, "Models", ("ModelName", "ModelArn", "CreationTime")),
    "ListEndpointConfigs": Listing(
        ENDPOINT_CONFIG, "EndpointConfigs", ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
    ),
    "ListEndpoints": Listing(
        ENDPOINT,
        "Endpoints",
        ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus"),
    ),
}


def list_resources(store: Store, listing: Listing, request: Mapping[str, Any]) -> Body:
    """One page of summaries, with ``NextToken`` where there is another.

    :param request: a validated request of one of the List actions.
    :raises ApiError: the token is not one of ours, or belongs to a request with other filters or order.
    """
    column = _COLUMNS[request.get("SortBy", "CreationTime")]
    ascending = request.get("SortOrder", listing.order) == "Ascending"
    asked = {name: request[name] for name in (*_FILTERS, "SortBy", "SortOrder") if name in request}
    where = [_FILTERS[name] for name in asked if name in _FILTERS]
    parameters = [value for name, value in asked.items() if name in _FILTERS]
    if "NextToken" in request:
        where.append(f"({column}, key) {'>' if ascending else '<'} (?, ?)")
        parameters += _open_token(request["NextToken"], asked)
    direction = "ASC" if ascending else "DESC"
    limit = request.get("MaxResults", _DEFAULT_PAGE)
    # One row more than the page says whether there is another page.
    tail = f"ORDER BY {column} {direction}, key {direction} LIMIT {limit + 1:d}"
    found = store.query(listing.kind, " AND ".join(where) or "1", parameters, tail)
    page: Body = {listing.result: [listing.summary(body) for body in found[:limit]]}
    if len(found) > limit:
        page["NextToken"] = _token(listing.kind, found[limit - 1], column, asked)
    return page


def _token(kind: Kind, last: Body, column: str, asked: Mapping[str, Any]) -> str:
    name = last[f"{kind.name}Name"]
    values = {"name": name, "created": last["CreationTime"], "modified": last["LastModifiedTime"]}
    if kind.status:
        values["status"] = last[kind.status]
    text = json.dumps({"asked": asked, "after": [values[column], kind.key(name)]}, sort_keys=True)
    return base64.urlsafe_b64encode(text.encode()).decode()


def _open_token(token: str, asked: Mapping[str, Any]) -> list[Any]:
    try:
        content = json.loads(base64.urlsafe_b64decode(token))
        after = list(content["after"])
    except (ValueError, KeyError, TypeError) as error:
        raise refuse("list.bad_token") from error
    if content.get("asked") != asked or len(after) != 2:
        raise refuse("list.bad_token")
    return after
