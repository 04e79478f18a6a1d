"""CreateEndpoint, DescribeEndpoint, UpdateEndpoint, UpdateEndpointWeightsAndCapacities, DeleteEndpoint, and what an
endpoint goes through in between.

The body keeps two deployments of its own: ``_live`` serves, ``_pending`` is coming up. Both hold the containers
themselves, because the configuration and the models may be deleted while the endpoint goes on.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow_sm_git.local.context import Context, public
from airflow_sm_git.local.errors_sagemaker import refuse
from airflow_sm_git.local.fleet import Fleet, FleetFailed, Fleets
from airflow_sm_git.local.hosting import STARTUP_TIMEOUT
from airflow_sm_git.local.models import containers
from airflow_sm_git.local.store import ENDPOINT, ENDPOINT_CONFIG, MODEL, Body
from airflow_sm_git.local.tags import check_tags

# AWS's text, as quoted in a public issue (deep-learning-containers 6673).
NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)
_log = logging.getLogger(__name__)


class Endpoints:
    """All endpoints of one server. Each change of one runs in a thread of its own, one change at a time."""

    def __init__(self, context: Context, fleets: Fleets) -> None:
        self._context = context
        self._fleets = fleets
        self._closed = threading.Event()

    def create(self, request: Mapping[str, Any]) -> Body:
        """CreateEndpoint.

        :raises ApiError: the name is taken (in whatever case), or the configuration or one of its models is missing.
        """
        name = request["EndpointName"]
        arn = self._context.arn(ENDPOINT, name)
        pending = deployment(self._context, request)
        body = {
            "EndpointName": name,
            "EndpointArn": arn,
            "EndpointConfigName": request["EndpointConfigName"],
            "EndpointStatus": "Creating",
            "_pending": pending,
        }
        self._context.insert(ENDPOINT, body, check_tags(request.get("Tags", ())), "endpoint.exists")
        self._spawn(self._bring_up, name)
        return {"EndpointArn": arn}

    def describe(self, request: Mapping[str, Any]) -> Body:
        """DescribeEndpoint.

        :raises ApiError: no such endpoint.
        """
        body = self._context.require(ENDPOINT, request["EndpointName"], "endpoint.missing")
        answer = public(body)
        if pending := body.get("_pending"):
            answer["PendingDeploymentSummary"] = {
                "EndpointConfigName": pending["EndpointConfigName"],
                "StartTime": pending["StartTime"],
                "ProductionVariants": [_summary(variant, pending=True) for variant in pending["Variants"]],
            }
        if live := body.get("_live"):
            answer["ProductionVariants"] = [_summary(variant) for variant in live["Variants"]]
            answer |= {name: live[name] for name in ("DataCaptureConfig", "LastDeploymentConfig") if name in live}
        return answer

    def update(self, request: Mapping[str, Any]) -> Body:
        """UpdateEndpoint: new processes come up beside the old ones, which answer until the new ones do.

        :raises ApiError: endpoint or configuration missing, or the endpoint cannot be updated now.
        """
        name = request["EndpointName"]
        # Before the configuration is looked at: AWS names the endpoint first.
        self._updatable(self._context.require(ENDPOINT, name, "endpoint.missing"))
        pending = deployment(self._context, request)

        def change(body: Body) -> None:
            self._updatable(body)
            if request.get("RetainAllVariantProperties"):
                _retain(pending, body["_live"], request.get("ExcludeRetainedVariantProperties", ()))
            if request.get("RetainDeploymentConfig") and "LastDeploymentConfig" in body["_live"]:
                pending["LastDeploymentConfig"] = body["_live"]["LastDeploymentConfig"]
            body.update(EndpointStatus="Updating", _pending=pending)
            body.pop("FailureReason", None)

        body = self._context.store.update(ENDPOINT, name, change)
        if body is None:
            raise refuse("endpoint.missing", arn=self._context.arn(ENDPOINT, name))
        self._spawn(self._bring_up, name)
        return {"EndpointArn": body["EndpointArn"]}

    def update_weights(self, request: Mapping[str, Any]) -> Body:
        """UpdateEndpointWeightsAndCapacities. Weights steer the traffic; capacities are only described.

        :raises ApiError: endpoint or variant missing, or the endpoint cannot be updated now.
        """
        name = request["EndpointName"]
        desired = {item["VariantName"]: item for item in request["DesiredWeightsAndCapacities"]}

        def begin(body: Body) -> None:
            self._updatable(body)
            variants = {variant["VariantName"]: variant for variant in body["_live"]["Variants"]}
            for variant, wish in desired.items():
                if variant not in variants:
                    raise refuse("endpoint.no_variant", variant=variant, arn=body["EndpointArn"])
                variants[variant]["Weight"] = wish.get("DesiredWeight", variants[variant]["Weight"])
                variants[variant]["Count"] = wish.get("DesiredInstanceCount", variants[variant]["Count"])
            body["EndpointStatus"] = "Updating"

        body = self._context.store.update(ENDPOINT, name, begin)
        if body is None:
            raise refuse("endpoint.missing", arn=self._context.arn(ENDPOINT, name))
        self._spawn(self._set, name, {"EndpointStatus": "InService"})
        return {"EndpointArn": body["EndpointArn"]}

    def delete(self, request: Mapping[str, Any]) -> Body:
        """DeleteEndpoint: it is Deleting at once, and gone when its processes are.

        :raises ApiError: no such endpoint, or it is being created, updated or deleted.
        """
        name = request["EndpointName"]

        def change(body: Body) -> None:
            if body["EndpointStatus"] not in ("InService", "Failed"):
                raise refuse("endpoint.in_progress", arn=body["EndpointArn"])
            body["EndpointStatus"] = "Deleting"

        if self._context.store.update(ENDPOINT, name, change) is None:
            raise refuse("endpoint.missing", arn=self._context.arn(ENDPOINT, name))
        self._spawn(self._tear_down, name)
        return {}

    def recover(self) -> None:
        """Take up every endpoint where an earlier server left it. Returns at once; processes come up meanwhile."""
        shutil.rmtree(self._context.state.endpoints, ignore_errors=True)
        for body in self._context.store.with_status(ENDPOINT, "InService", "Updating", "Creating", "Deleting"):
            self._spawn(self._resume, body["EndpointName"])

    def close(self) -> None:
        """Stop all processes; the endpoints stay what they are, and come up again at the next start."""
        self._closed.set()
        self._fleets.stop()

    def _updatable(self, body: Body) -> None:
        if body["EndpointStatus"] == "Failed":
            raise refuse("endpoint.failed", arn=body["EndpointArn"], status="Failed")
        if body["EndpointStatus"] != "InService":
            raise refuse("endpoint.in_progress", arn=body["EndpointArn"])

    def _spawn(self, work: Callable[..., None], name: str, *arguments: Any) -> None:
        def run() -> None:
            try:
                work(name, *arguments)
            except Exception:
                if not self._closed.is_set():
                    _log.exception("endpoint %s", name)

        threading.Thread(target=run, name=f"endpoint {name}", daemon=True).start()

    def _set(self, name: str, members: Mapping[str, Any]) -> None:
        self._context.store.update(ENDPOINT, name, lambda body: body.update(members))

    def _bring_up(self, name: str) -> None:
        body = self._context.store.get(ENDPOINT, name)
        if body is None or "_pending" not in body:
            return
        faults, action = self._context.faults, "Update" if "_live" in body else "Create"
        if stuck := faults.take("endpoint", "sagemaker", f"{action}Endpoint", name):
            faults.hold(stuck)
        none = faults.take("job", "sagemaker", f"{action}Endpoint", name, "capacity")
        fleet = NO_CAPACITY if none else self._start(name, body["_pending"])
        if self._closed.is_set():
            if isinstance(fleet, Fleet):
                fleet.stop()
            return
        if isinstance(fleet, str):
            self._context.store.update(ENDPOINT, name, lambda body: _roll_back(body, fleet))
            return
        before = self._fleets.switch(body["EndpointName"], fleet)
        if before is not None and self._closed.wait(_bake_time(body["_pending"])):
            before.stop()
            return
        self._context.store.update(ENDPOINT, name, _go_live)
        if before is not None:
            before.retire()

    def _start(self, name: str, wanted: Mapping[str, Any]) -> Fleet | str:
        """The running fleet, or why there is none."""
        try:
            return Fleet.start(self._context, name, wanted)
        except FleetFailed as error:
            return str(error)
        except Exception as error:
            if not self._closed.is_set():
                _log.exception("endpoint %s", name)
            return f"InternalServerError: We encountered an internal error. Please try again. ({error!r})"

    def _tear_down(self, name: str) -> None:
        body = self._context.store.get(ENDPOINT, name)
        if body is None:
            return
        fleet = self._fleets.switch(body["EndpointName"], None)
        if fleet is not None:
            fleet.retire()
        self._context.store.delete(ENDPOINT, name)

    def _resume(self, name: str) -> None:
        body = self._context.store.get(ENDPOINT, name)
        if body is None or body["EndpointStatus"] == "Deleting":
            self._tear_down(name)
            return
        if "_live" in body:
            fleet = self._start(name, body["_live"])
            if isinstance(fleet, Fleet):
                self._fleets.switch(name, fleet)
                if self._closed.is_set():
                    self._fleets.stop()
            elif not self._closed.is_set():
                self._set(name, {"EndpointStatus": "Failed", "FailureReason": fleet})
                return
        if "_pending" in body:
            self._bring_up(name)
        elif body["EndpointStatus"] == "Updating":
            self._set(name, {"EndpointStatus": "InService"})


def deployment(context: Context, request: Mapping[str, Any]) -> Body:
    """What an endpoint shall serve, with all that is needed to serve it again after a restart.

    :param request: a CreateEndpoint or UpdateEndpoint request.
    :raises ApiError: the configuration or one of its models is missing, or is more than the local server can serve.
    """
    config = context.require(ENDPOINT_CONFIG, request["EndpointConfigName"], "endpoint_config.missing")
    variants = []
    for variant in config["ProductionVariants"]:
        model = context.require(MODEL, variant["ModelName"], "model.missing")
        if len(containers(model)) != 1:
            raise refuse("unsupported", what="models of several containers")
        variants.append(
            {
                "VariantName": variant["VariantName"],
                "Containers": containers(model),
                "Weight": variant["InitialVariantWeight"],
                "Count": variant.get("InitialInstanceCount", 0),
                "Serverless": variant.get("ServerlessConfig"),
                "StartupTimeout": variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_TIMEOUT),
            }
        )
    made: Body = {
        "EndpointConfigName": config["EndpointConfigName"],
        "StartTime": round(time.time(), 3),
        "Variants": variants,
    }
    if "DataCaptureConfig" in config:
        made["DataCaptureConfig"] = {
            "EnableCapture": config["DataCaptureConfig"].get("EnableCapture", False),
            "CaptureStatus": "Stopped",  # nothing is captured here
            "CurrentSamplingPercentage": config["DataCaptureConfig"]["InitialSamplingPercentage"],
            "DestinationS3Uri": config["DataCaptureConfig"]["DestinationS3Uri"],
            "KmsKeyId": config["DataCaptureConfig"].get("KmsKeyId", ""),
        }
    if "DeploymentConfig" in request:
        made["LastDeploymentConfig"] = request["DeploymentConfig"]
    return made


def _bake_time(pending: Mapping[str, Any]) -> float:
    """Seconds for which an update goes on after the new processes have taken over (SageMaker API reference,
    BlueGreenUpdatePolicy): the waits between its steps, and that before the old instances end."""
    policy = pending.get("LastDeploymentConfig", {}).get("BlueGreenUpdatePolicy", {})
    routing = policy.get("TrafficRoutingConfiguration", {})
    steps = {"ALL_AT_ONCE": 1, "CANARY": 2}.get(routing.get("Type"), 1)
    if size := routing.get("LinearStepSize"):
        portion = size["Value"] if size["Type"] == "CAPACITY_PERCENT" else 100
        steps = math.ceil(100 / portion)
    return float(steps * routing.get("WaitIntervalInSeconds", 0) + policy.get("TerminationWaitInSeconds", 0))


def _summary(variant: Mapping[str, Any], *, pending: bool = False) -> Body:
    image = variant["Containers"][0]["Image"]
    summary: Body = {
        "VariantName": variant["VariantName"],
        "DeployedImages": [{"SpecifiedImage": image, "ResolvedImage": image}],
        "DesiredWeight": variant["Weight"],
        "CurrentWeight": variant["Weight"],
    }
    if variant["Serverless"]:
        summary["DesiredServerlessConfig"] = summary["CurrentServerlessConfig"] = variant["Serverless"]
    else:
        summary["DesiredInstanceCount"] = variant["Count"]
    if pending:
        summary |= {"CurrentWeight": 0.0, "VariantStatus": [{"Status": "Creating"}]}
    elif not variant["Serverless"]:
        summary["CurrentInstanceCount"] = variant["Count"]
    return summary


def _retain(pending: Body, live: Mapping[str, Any], excluded: Any) -> None:
    """Keep weights and counts of variants that are there already (SageMaker API reference, UpdateEndpoint)."""
    left_out = {item["VariantPropertyType"] for item in excluded}
    before = {variant["VariantName"]: variant for variant in live["Variants"]}
    for variant in pending["Variants"]:
        if old := before.get(variant["VariantName"]):
            if "DesiredWeight" not in left_out:
                variant["Weight"] = old["Weight"]
            if "DesiredInstanceCount" not in left_out:
                variant["Count"] = old["Count"]
    if "DataCaptureConfig" not in left_out and "DataCaptureConfig" in live:
        pending["DataCaptureConfig"] = live["DataCaptureConfig"]


def _go_live(body: Body) -> None:
    live = body["_live"] = body.pop("_pending")
    body.update(EndpointStatus="InService", EndpointConfigName=live["EndpointConfigName"])
    body.pop("FailureReason", None)


def _roll_back(body: Body, reason: str) -> None:
    """A first deployment that fails leaves the endpoint Failed; a later one leaves it as it was, and says why."""
    body.pop("_pending")
    body.update(EndpointStatus="InService" if "_live" in body else "Failed", FailureReason=reason)
