"""What an endpoint's description says: what it needs next, whether it serves what was asked, and why it does not.

Sources: SageMaker API reference, DescribeEndpoint, UpdateEndpoint (a Failed endpoint can only be deleted),
ProductionVariantSummary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_sm_git.core.status import ENDPOINT_BUSY

_SAME = 1e-5  # relative; weights are single-precision numbers on the way
_NO_CAPACITY = ("InsufficientInstanceCapacity", "CapacityError", "Unable to provision requested ML compute capacity")


class EndpointAction(Enum):
    """What an endpoint needs next."""

    CREATE = "create it"
    UPDATE = "move it to the configuration"
    WAIT = "wait: it is busy and refuses changes"
    DELETE = "delete it: it failed and can do nothing else"
    NOTHING = "nothing: it serves the configuration already"


@dataclass(frozen=True)
class Asked:
    """What an endpoint has been asked for.

    :param config: the configuration it is to serve.
    :param before: the one it served then, and goes back to if it fails; None if it was new.
    """

    config: str
    before: str | None


def next_action(endpoint: Mapping[str, Any] | None, config_name: str) -> EndpointAction:
    """Decide what an endpoint needs to serve a configuration.

    :param endpoint: DescribeEndpoint's answer, or None if there is none.
    :param config_name: the configuration it is to serve.
    """
    if endpoint is None:
        return EndpointAction.CREATE
    status = endpoint["EndpointStatus"]
    if status in ENDPOINT_BUSY or status == "Deleting":
        return EndpointAction.WAIT
    if status == "Failed":
        return EndpointAction.DELETE
    live = status == "InService" and endpoint["EndpointConfigName"] == config_name
    return EndpointAction.NOTHING if live else EndpointAction.UPDATE


def asked_already(endpoint: Mapping[str, Any] | None, config_name: str) -> Asked | None:
    """What an endpoint is on its way to, if that is the configuration: an earlier try, or another run, has asked."""
    status = endpoint["EndpointStatus"] if endpoint else ""
    if endpoint is None or status not in ENDPOINT_BUSY:
        return None
    live = str(endpoint["EndpointConfigName"])
    if status == "Creating" and live == config_name:
        return Asked(config_name, None)
    pending = endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
    return Asked(config_name, live) if status == "Updating" and pending == config_name else None


def deviations(endpoint: Mapping[str, Any], config: Mapping[str, Any], update: Mapping[str, Any]) -> list[str]:
    """How the live production variants differ from those that were asked for.

    More instances than asked for are no deviation: automatic scaling may have added them meanwhile.

    :param endpoint: DescribeEndpoint's answer.
    :param config: the CreateEndpointConfig request.
    :param update: the UpdateEndpoint request; the properties that it retains are not compared.
    :return: one clause for each difference.
    """
    live = {variant["VariantName"]: variant for variant in endpoint.get("ProductionVariants", ())}
    wanted = {variant["VariantName"]: variant for variant in config["ProductionVariants"]}
    found = [f"variant {name!r} is missing" for name in wanted if name not in live]
    found += [f"variant {name!r} was not asked for" for name in live if name not in wanted]
    compared = _compared(update)
    for name in wanted.keys() & live.keys():
        count, running = wanted[name].get("InitialInstanceCount"), live[name].get("CurrentInstanceCount")
        scaled = "ManagedInstanceScaling" in wanted[name]
        if "DesiredInstanceCount" in compared and count and not scaled and (running or 0) < count:
            found.append(f"variant {name!r} has {running or 0} instances of {count}")
        weight = wanted[name].get("InitialVariantWeight")
        if "DesiredWeight" in compared and weight is not None:
            found += [
                f"variant {name!r} has the {word} {live[name][member]:g}, not {weight:g}"
                for member, word in (("CurrentWeight", "weight"), ("DesiredWeight", "desired weight"))
                if member in live[name] and not math.isclose(live[name][member], weight, rel_tol=_SAME)
            ]
    return sorted(found)


def lacks_capacity(reason: str) -> bool:
    """Whether a FailureReason says that AWS had no instances to give."""
    return any(text in reason for text in _NO_CAPACITY)


def remedy(reason: str) -> str:
    """What to do about a FailureReason."""
    if lacks_capacity(reason):
        return "Try again later, or choose another instance_type."
    if "larm" in reason:  # alarm, Alarm
        return "Look at what the alarms of deployment_config's AutoRollbackConfiguration have seen."
    if "ResourceLimitExceeded" in reason or "service limit" in reason:
        return "Ask AWS for a higher quota, or use a smaller instance_type or initial_instance_count."
    if "download" in reason:
        return "Check that the model's archive is there, and that role may read it."
    return "Correct the hosting code; model_fn is the usual cause."


def _compared(update: Mapping[str, Any]) -> set[str]:
    if not update.get("RetainAllVariantProperties"):
        return {"DesiredInstanceCount", "DesiredWeight"}
    return {each["VariantPropertyType"] for each in update.get("ExcludeRetainedVariantProperties", ())}
