"""CreateTrainingJob, DescribeTrainingJob, StopTrainingJob, and the life of a job in between."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Mapping
from math import isfinite
from typing import Any

from airflow_sm_git.local.context import Context, public, split_uri
from airflow_sm_git.local.errors_sagemaker import refuse
from airflow_sm_git.local.store import TRAINING_JOB, Body
from airflow_sm_git.local.tags import check_tags
from airflow_sm_git.local.training_run import Outcome, TrainingRun, final_metrics

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
RESTARTED = (
    "InternalServerError: We encountered an internal error. Please try again. "
    "(The local SageMaker was stopped or killed while the job was running.)"
)
# "CapacityError" is one of the classes of failure reasons (SageMaker API reference, DescribeTrainingJob,
# FailureReason); the text is AWS's as quoted in public issue reports.
NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)
# Status messages as the SDK's and the provider's users know them from DescribeTrainingJob.
_MESSAGES = {
    "Starting": "Starting the training job",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Interrupted": "Training job interrupted due to Spot capacity",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}
_RUNNING = ("InProgress", "Stopping")
_log = logging.getLogger(__name__)


class _Run(TrainingRun):
    """A run that can also be ended without any grace."""

    def kill(self) -> None:
        self._grace = 0.0
        self.stop()


class TrainingJobs:
    """All training jobs of one server; each running one has a thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._runs: dict[str, tuple[_Run, threading.Thread]] = {}
        self._closing = False

    def create(self, request: Mapping[str, Any]) -> Body:
        """CreateTrainingJob: the job is kept, then run.

        :raises ApiError: the name was used before, or SageMaker would not take the request.
        """
        name = request["TrainingJobName"]
        arn = self._context.arn(TRAINING_JOB, name)
        _check(self._context, request)
        tags = check_tags(request.get("Tags", ()))
        run = self._build(request)
        thread = threading.Thread(target=self._run, args=(name, run), name=f"job {name}", daemon=True)
        with self._lock:
            self._context.insert(TRAINING_JOB, _described(request, arn), tags, "training_job.in_use")
            self._runs[name] = run, thread
        thread.start()
        return {"TrainingJobArn": arn}

    def describe(self, request: Mapping[str, Any]) -> Body:
        """DescribeTrainingJob.

        :raises ApiError: no such job.
        """
        return public(self._context.require(TRAINING_JOB, request["TrainingJobName"], "training_job.missing"))

    def stop(self, request: Mapping[str, Any]) -> Body:
        """StopTrainingJob: returns at once; the script gets SIGTERM and its grace. A second call changes nothing.

        :raises ApiError: no such job, or it has ended.
        """
        name = request["TrainingJobName"]

        def change(body: Body) -> None:
            status = body["TrainingJobStatus"]
            if status not in _RUNNING:
                raise refuse("training_job.not_running", status=status)
            if status == "InProgress":
                body["TrainingJobStatus"] = "Stopping"
                _enter(body, "Stopping")

        with self._lock:  # a job is never in the store without being in _runs too, seen from here
            if self._context.store.update(TRAINING_JOB, name, change) is None:
                raise refuse("training_job.missing")
            running = self._runs.get(name)
        if running:
            running[0].stop()
        return {}

    def recover(self) -> None:
        """End the jobs that ran when an earlier server died: their processes are gone."""

        def change(body: Body) -> None:
            if body["TrainingJobStatus"] == "Stopping":
                _end(body, "Stopped", "Stopped", None)
            else:
                _end(body, "Failed", "Failed", RESTARTED)

        for job in self._context.store.with_status(TRAINING_JOB, *_RUNNING):
            self._context.store.update(TRAINING_JOB, job["TrainingJobName"], change)
        shutil.rmtree(self._context.state.jobs, ignore_errors=True)

    def close(self, timeout: float = 5.0) -> None:
        """Kill every running job, and say so.

        :param timeout: seconds to wait for each.
        """
        with self._lock:
            self._closing = True
            running = list(self._runs.values())
        for run, _ in running:
            run.kill()
        for _, thread in running:
            thread.join(timeout)
        self.recover()

    def _build(self, request: Mapping[str, Any]) -> _Run:
        name = request["TrainingJobName"]
        context = self._context
        stream = f"{name}/algo-1-{int(time.time())}"

        def log(line: str) -> None:
            context.logs.write(LOG_GROUP, stream, line)

        return _Run(
            request,
            workspace=context.state.jobs / name,
            objects=context.objects,
            log=log,
            overlays=context.state.overlays,
            on_phase=lambda phase: self._phase(name, phase),
            aws=context.aws,
            job_arn=context.arn(TRAINING_JOB, name),
            region=context.region,
        )

    def _phase(self, name: str, phase: str) -> None:
        def change(body: Body) -> None:
            body.setdefault("TrainingStartTime", _now())
            if body["TrainingJobStatus"] == "InProgress":
                _enter(body, phase)

        self._context.store.update(TRAINING_JOB, name, change)

    def _run(self, name: str, run: _Run) -> None:
        try:
            outcome = self._outcome(name, run)
            self._context.logs.flush()
        except Exception as error:
            _log.exception("training job %s", name)
            reason = f"InternalServerError: We encountered an internal error. Please try again. ({error!r})"
            now = time.time()
            outcome = Outcome("Failed", "Failed", reason, None, now, now)
        if self._closing:
            return  # we killed the process: close() says so
        self._context.store.update(TRAINING_JOB, name, lambda body: _finish(body, outcome))
        with self._lock:
            del self._runs[name]

    def _outcome(self, name: str, run: _Run) -> Outcome:
        """Run to the end, whatever instances there are and however often they are taken away."""
        rule = self._context.faults.take("job", "sagemaker", "CreateTrainingJob", name)
        if rule is None:
            return run.run()
        if rule.kind == "capacity":
            now = time.time()
            return Outcome("Failed", "Failed", NO_CAPACITY, None, now, now)
        interruption = threading.Timer(rule.seconds, run.kill)
        interruption.start()
        outcome = run.run()
        interruption.cancel()
        job = self._context.store.get(TRAINING_JOB, name)
        if outcome.status != "Stopped" or job is None or job["TrainingJobStatus"] != "InProgress":
            return outcome  # it ended before the interruption, or somebody stopped it
        self._phase(name, "Interrupted")
        self._phase(name, "Starting")
        again = self._build(job)
        with self._lock:
            self._runs[name] = again, self._runs[name][1]
        return self._outcome(name, again)


def _check(context: Context, request: Mapping[str, Any]) -> None:
    if "ServerlessJobConfig" in request:
        raise refuse("unsupported", what="serverless training jobs")
    for member in ("AlgorithmSpecification", "ResourceConfig", "StoppingCondition"):
        if member not in request:
            raise refuse("training_job.incomplete", member=member[0].lower() + member[1:])
    algorithm = request["AlgorithmSpecification"]
    if ("TrainingImage" in algorithm) == ("AlgorithmName" in algorithm):
        raise refuse("training_job.algorithm")
    if "AlgorithmName" in algorithm:
        raise refuse("unsupported", what="algorithm resources (AlgorithmName)")
    context.check_role(request["RoleArn"])
    _check_limits(request)
    _check_channels(context, request)


def _check_limits(request: Mapping[str, Any]) -> None:
    stopping = request["StoppingCondition"]
    wait = stopping.get("MaxWaitTimeInSeconds")
    if not request.get("EnableManagedSpotTraining"):
        if wait is not None:
            raise refuse("training_job.wait_without_spot")
    elif wait is None or wait < stopping.get("MaxRuntimeInSeconds", 86400):
        raise refuse("training_job.spot_without_wait")


def _check_channels(context: Context, request: Mapping[str, Any]) -> None:
    seen = set()
    for channel in request.get("InputDataConfig", ()):
        name = channel["ChannelName"]
        if name in seen:
            raise refuse("training_job.duplicate_channel", channel=name)
        seen.add(name)
        source = channel["DataSource"].get("S3DataSource")
        if source is None:
            raise refuse("unsupported", what=f"channel {name}: data that is not in S3")
        uri = source["S3Uri"]
        if not context.has_objects(uri):
            bucket, _ = split_uri(uri)
            raise refuse("training_job.no_data", uri=uri, region=context.region, role=request["RoleArn"], bucket=bucket)


def _described(request: Mapping[str, Any], arn: str) -> Body:
    """What DescribeTrainingJob answers right after the create: the request, with SageMaker's defaults filled in."""
    body: Body = {
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        **public(request, "Tags"),
        "TrainingJobArn": arn,
        "TrainingJobStatus": "InProgress",
        "ProfilingStatus": "Disabled",
    }
    body["OutputDataConfig"] = {"KmsKeyId": "", "CompressionType": "GZIP", **body["OutputDataConfig"]}
    body["StoppingCondition"] = {"MaxRuntimeInSeconds": 86400, **body["StoppingCondition"]}
    if "InputDataConfig" in body:
        defaults = {"CompressionType": "None", "RecordWrapperType": "None"}
        body["InputDataConfig"] = [{**defaults, **channel} for channel in body["InputDataConfig"]]
    _enter(body, "Starting")
    return body


def _enter(body: Body, secondary: str) -> None:
    """Move to a secondary status, closing the transition before it."""
    now = _now()
    transitions = body.setdefault("SecondaryStatusTransitions", [])
    if transitions:
        transitions[-1]["EndTime"] = now
    transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": _MESSAGES.get(secondary, secondary)})
    body["SecondaryStatus"] = secondary


def _finish(body: Body, outcome: Outcome) -> None:
    # JSON has no infinity, and SageMaker's metrics have none either.
    metrics = [metric for metric in final_metrics(outcome.metrics) if isfinite(metric.value)]
    if metrics:
        body["FinalMetricDataList"] = [
            {"MetricName": metric.name, "Value": metric.value, "Timestamp": round(metric.timestamp, 3)}
            for metric in metrics
        ]
    if outcome.model_data:
        body["ModelArtifacts"] = {"S3ModelArtifacts": outcome.model_data}
    _end(body, outcome.status, outcome.secondary_status, outcome.failure_reason)
    body["TrainingTimeInSeconds"] = body["BillableTimeInSeconds"] = outcome.billable_seconds


def _end(body: Body, status: str, secondary: str, reason: str | None) -> None:
    body["TrainingJobStatus"] = status
    _enter(body, secondary)
    transition = body["SecondaryStatusTransitions"][-1]
    body["TrainingEndTime"] = transition["EndTime"] = transition["StartTime"]
    body.setdefault("TrainingStartTime", body["TrainingEndTime"])
    if reason:
        body["FailureReason"] = transition["StatusMessage"] = reason
    if body["ResourceConfig"].get("KeepAlivePeriodInSeconds"):
        # No instance is kept warm here; the member is there for those who read it.
        body["WarmPoolStatus"] = {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 0}


def _now() -> float:
    return round(time.time(), 3)
