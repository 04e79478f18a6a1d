"""AddTags, ListTags, DeleteTags, and the check of the tags that a Create carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_sm_git.local.context import Context
from airflow_sm_git.local.errors_sagemaker import refuse
from airflow_sm_git.local.store import Body

_LIMIT = 50  # SageMaker API reference, AddTags: "A resource can have up to 50 tags" (Tags, TagList)


def check_tags(tags: Sequence[Mapping[str, str]]) -> Sequence[Mapping[str, str]]:
    """The tags, if a request may carry them.

    :raises ApiError: a key twice, or one that AWS keeps for itself.
    """
    seen = set()
    for tag in tags:
        if tag["Key"] in seen:
            raise refuse("tags.duplicate", tag=tag["Key"])
        if tag["Key"].lower().startswith("aws:"):
            raise refuse("tags.reserved")
        seen.add(tag["Key"])
    return tags


def add_tags(context: Context, request: Mapping[str, Any]) -> Body:
    """AddTags: tags with a known key are replaced.

    :raises ApiError: no such resource, or too many tags.
    """
    arn = _require(context, request)
    added = {tag["Key"]: tag["Value"] for tag in check_tags(request["Tags"])}

    def change(tags: dict[str, str]) -> None:
        tags.update(added)
        if len(tags) > _LIMIT:
            raise refuse("tags.limit", count=len(tags))

    return {"Tags": _list(context.store.change_tags(arn, change))}


def list_tags(context: Context, request: Mapping[str, Any]) -> Body:
    """ListTags: all of them fit on one page, because a page has at least 50.

    :raises ApiError: no such resource, or a token, of which none was ever given out.
    """
    if "NextToken" in request:
        raise refuse("list.bad_token")
    return {"Tags": _list(context.store.tags(_require(context, request)))}


def delete_tags(context: Context, request: Mapping[str, Any]) -> Body:
    """DeleteTags: keys that are not there are no error.

    :raises ApiError: no such resource.
    """

    def change(tags: dict[str, str]) -> None:
        for key in request["TagKeys"]:
            tags.pop(key, None)

    context.store.change_tags(_require(context, request), change)
    return {}


def _require(context: Context, request: Mapping[str, Any]) -> str:
    arn: str = request["ResourceArn"]
    if not context.store.has_arn(arn):
        raise refuse("tags.missing", arn=arn)
    return arn


def _list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
