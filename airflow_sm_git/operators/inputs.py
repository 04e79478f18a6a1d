"""From the parameter `inputs` to channels: URIs, dicts of them, full channels, local files."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.literals import read
from airflow_sm_git.core.training import channel

if TYPE_CHECKING:
    from airflow_sm_git.clients.s3 import Store


def channels(inputs: Any, store: Store) -> list[dict[str, Any]]:
    """Build ``InputDataConfig``.

    :param inputs: an S3 or ``file://`` URI (channel ``training``); a dict from channel names to URIs, to dicts of the
        SDK's ``TrainingInput`` parameters, or to full ``DataSource`` channels; a list of full channels.
    :param store: where ``file://`` data goes, under its digest.
    :raises BadParameter: it is something else.
    """
    inputs = read(inputs)
    if not inputs:
        return []
    if isinstance(inputs, str):
        inputs = {"training": inputs}
    if isinstance(inputs, Mapping):
        return [_channel(name, value, store) for name, value in inputs.items()]
    if isinstance(inputs, list) and all(isinstance(item, Mapping) and "ChannelName" in item for item in inputs):
        return [_full(item, store) for item in inputs]
    raise BadParameter(
        "inputs", inputs, "is no URI, dict or list of channels", "Give a URI, {'channel': URI}, or full channel dicts."
    )


def _channel(name: str, value: Any, store: Store) -> dict[str, Any]:
    if isinstance(value, Mapping) and "DataSource" in value:
        return _full({"ChannelName": name, **value}, store)
    source = dict(value) if isinstance(value, Mapping) else {"s3_data": value}
    if str(source.get("s3_data", "")).startswith("file:"):
        source["s3_data"] = store.put_directory(_local_path(name, source["s3_data"]))
    return channel(name, source)


def _full(given: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """A full channel as it is, but for local data."""
    channel = copy.deepcopy(dict(given))
    source = channel["DataSource"].get("S3DataSource", {})
    if str(source.get("S3Uri", "")).startswith("file:"):
        source["S3Uri"] = store.put_directory(_local_path(channel["ChannelName"], source["S3Uri"]))
    return channel


def _local_path(name: str, uri: str) -> Path:
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute() or not path.exists():
        raise BadParameter(
            f"inputs[{name!r}]", uri, "is no file or directory on this worker", "Write file:///<absolute path>."
        )
    return path
