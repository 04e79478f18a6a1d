"""One training job, from its request to its artefacts: data in, the script run as a process, results out."""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_sm_git.local import contract, overlay
from airflow_sm_git.local.checkpoints import Checkpoints
from airflow_sm_git.local.job_output import JobOutput, algorithm_error, failure_reason
from airflow_sm_git.local.metrics import Metric, final_metrics
from airflow_sm_git.local.objects import ObjectStore
from airflow_sm_git.local.process import Exit, GuardedProcess, ProcessError, base_environment, relocate
from airflow_sm_git.local.workspace import DataError, Workspace, extract

__all__ = ["Metric", "Outcome", "TrainingRun", "final_metrics", "model_uri"]

STOP_GRACE = 120.0
"""Seconds between SIGTERM and SIGKILL (SageMaker API reference, StopTrainingJob)."""
_DEFAULT_RUNTIME = 86_400.0


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    :param status: ``Completed``, ``Failed`` or ``Stopped``.
    :param secondary_status: the same, or ``MaxRuntimeExceeded``.
    :param failure_reason: text of FailureReason, None unless failed.
    :param exit_code: the script's, None if it never ran.
    :param metrics: every value captured, in order.
    :param model_data: S3 URI of the model artefact, None if none was uploaded.
    :param started: when work on the job began (epoch seconds).
    :param ended: when it ended.
    """

    status: str
    secondary_status: str
    failure_reason: str | None
    exit_code: int | None
    started: float
    ended: float
    metrics: list[Metric] = field(default_factory=list)
    model_data: str | None = None

    @property
    def billable_seconds(self) -> int:
        """Whole seconds from start to end."""
        return max(1, math.ceil(self.ended - self.started))


class _Failed(Exception):
    """The job ends here; the text is its FailureReason, ``code`` the exit code of its script, if that ran."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class _Stopped(Exception):
    """The job was stopped before its script ran."""


def output_prefix(request: Mapping[str, Any]) -> str:
    """S3 URI under which a job's results go, without a slash at the end."""
    return f"{request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/output"


def model_uri(request: Mapping[str, Any]) -> str:
    """S3ModelArtifacts of a job: the archive, or the prefix if its outputs are not to be compressed."""
    return output_prefix(request) + ("/model.tar.gz" if _compressed(request) else "/model/")


def _compressed(request: Mapping[str, Any]) -> bool:
    return bool(request["OutputDataConfig"].get("CompressionType", "GZIP") != "NONE")


class TrainingRun:
    """One job.

    :param request: a CreateTrainingJob request, already validated.
    :param workspace: directory for its files; made by :meth:`run`, and gone when that returns.
    :param objects: where S3 objects are.
    :param log: called with every line for the job's log stream, from more than one thread.
    :param overlays: where environments made from requirements.txt are kept.
    :param on_phase: called with ``Downloading``, ``Training``, ``Uploading`` as each begins.
    :param aws: ``AWS_*`` variables with which the script reaches the local services.
    :param job_arn: the job's ARN.
    :param region: the region it believes to be in.
    :param grace: seconds a stopped script has before it is killed.
    :param mounts: False to do without a private ``/opt/ml`` even where the system allows it.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        *,
        workspace: Path,
        objects: ObjectStore,
        log: Callable[[str], None],
        overlays: Path,
        on_phase: Callable[[str], None],
        aws: Mapping[str, str] | None = None,
        job_arn: str = "",
        region: str = "us-east-1",
        grace: float = STOP_GRACE,
        mounts: bool = True,
    ) -> None:
        self._request = request
        self._root = workspace
        self._objects = objects
        self._log = log
        self._overlays = overlays
        self._on_phase = on_phase
        self._aws = dict(aws or {})
        self._arn = job_arn
        self._region = region
        self._grace = grace
        self._mounts = mounts
        self._lock = threading.Lock()
        self._process: GuardedProcess | None = None
        self._stopped_as: str | None = None
        self._output = JobOutput()

    @property
    def metrics(self) -> list[Metric]:
        """What was captured so far."""
        return self._output.metrics

    def stop(self, grace: float | None = None) -> None:
        """Stop the job: SIGTERM, after the grace SIGKILL. Returns at once; may be called at any time, and again.

        :param grace: seconds, instead of those given when it was made.
        """
        if grace is not None:
            self._grace = grace
        self._stop("Stopped")

    def run(self) -> Outcome:
        """Do the job; returns when it has ended and nothing of it runs or lies about any more."""
        started = time.time()
        limit = float(self._request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _DEFAULT_RUNTIME))
        timer = threading.Timer(limit, self._stop, ["MaxRuntimeExceeded"])
        timer.daemon = True
        timer.start()
        reason = model = code = None
        workspace = Workspace(self._root, self._objects)
        try:
            self._download(workspace)
            code = self._train(workspace).code
            timer.cancel()
            model = self._upload(workspace)
        except DataError as error:
            reason = str(error)
        except _Failed as error:
            reason, code = str(error), error.code
        except _Stopped:
            self._log("Stopped before the script was started")
        except Exception as error:
            reason = f"InternalServerError: {type(error).__name__}: {error}"
        finally:
            timer.cancel()
            workspace.remove()
        return self._outcome(reason, code, model, started)

    def _outcome(self, reason: str | None, code: int | None, model: str | None, started: float) -> Outcome:
        stopped = self._stopped_as
        if stopped and not (reason and reason.startswith("InternalServerError")):
            status, secondary, reason = "Stopped", stopped, None
        else:
            status = secondary = "Failed" if reason else "Completed"
        return Outcome(status, secondary, reason, code, started, time.time(), self.metrics, model)

    # Stopping

    def _stop(self, why: str) -> None:
        with self._lock:
            self._stopped_as = self._stopped_as or why
            process = self._process
        if process:
            process.stop(self._grace)

    def _running(self, process: GuardedProcess | None) -> None:
        """Note the process that a stop concerns, and stop it if a stop came before it."""
        with self._lock:
            self._process = process
            late = self._stopped_as
        if process and late:
            process.stop(self._grace)

    def _go_on(self) -> None:
        if self._stopped_as:
            raise _Stopped

    # The three phases

    def _download(self, workspace: Workspace) -> None:
        self._on_phase("Downloading")
        workspace.write_config(files := contract.config_files(self._request))
        for channel in self._request.get("InputDataConfig", []):
            self._go_on()
            if channel.get("CompressionType") == "Gzip":  # SageMaker API reference, Channel
                self._log(
                    f"Channel {channel['ChannelName']}: CompressionType acts in Pipe mode only; files stay as they are"
                )
            mode = files["inputdataconfig.json"][channel["ChannelName"]]["TrainingInputMode"]
            workspace.download_channel(channel, mode=mode, role=self._request.get("RoleArn", ""), region=self._region)
        self._go_on()

    def _train(self, workspace: Workspace) -> Exit:
        self._on_phase("Training")
        definitions = self._request.get("AlgorithmSpecification", {}).get("MetricDefinitions", [])
        try:
            self._output = JobOutput(definitions, self._log)
        except ValueError as error:
            raise _Failed(f"ClientError: a MetricDefinitions regular expression is broken: {error}") from error
        if self._request.get("ResourceConfig", {}).get("InstanceCount", 1) > 1:
            self._log("InstanceCount is more than 1: the local SageMaker runs the script on one host, algo-1")
        try:
            argv, env = self._prepare(workspace)
        except contract.ContractError as error:
            raise _Failed(algorithm_error(str(error), 1)) from error
        self._go_on()
        checkpoints = Checkpoints(config, workspace) if (config := self._request.get("CheckpointConfig")) else None
        if checkpoints:
            checkpoints.restore()
        try:
            end = self._execute(argv, env, workspace)
        finally:
            if checkpoints:
                checkpoints.finish()
        if end.code and not self._stopped_as:
            self._save_output(workspace)
            raise _Failed(self._why(end, argv, workspace), end.code)
        return end

    def _upload(self, workspace: Workspace) -> str | None:
        self._on_phase("Uploading")
        self._save_output(workspace)
        prefix = output_prefix(self._request)
        uri = workspace.upload_directory(workspace.model, "model", prefix, compress=_compressed(self._request))
        if uri is None:
            self._log("The script saved nothing in /opt/ml/model (SM_MODEL_DIR): there is no model artefact")
        return uri

    def _save_output(self, workspace: Workspace) -> None:
        prefix = output_prefix(self._request)
        workspace.upload_directory(workspace.output / "data", "output", prefix, compress=_compressed(self._request))

    # Running the script

    def _prepare(self, workspace: Workspace) -> tuple[list[str], dict[str, str]]:
        """Command and environment of the job, its code and requirements in place."""
        algorithm = self._request.get("AlgorithmSpecification", {})
        environment = self._environment(workspace)
        if "ContainerEntrypoint" in algorithm:
            return [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", [])], environment
        place = contract.source(self._request)
        self._fetch_code(place.submit_directory, workspace)
        script, settings = contract.split(self._request.get("HyperParameters", {}))
        top_level = [path.name for path in workspace.code.iterdir()]
        machine = contract.Machine(os.cpu_count() or 1, gpus=len(list(Path("/dev").glob("nvidia[0-9]*"))))
        argv = contract.command(
            place.entry_point, contract.arguments(script), top_level=top_level, python=sys.executable
        )
        if argv[0] == "/bin/sh" and (workspace.code / place.entry_point).is_file():
            (workspace.code / place.entry_point).chmod(0o777)
        library = self._install(workspace.code, package="-m" in argv[:2], script=argv[0] == sys.executable)
        own = [contract.CODE, *([str(library)] if library else []), environment.get("PYTHONPATH", "")]
        if library:
            environment["PATH"] = f"{library / 'bin'}{os.pathsep}{environment['PATH']}"
        return argv, {
            **environment,
            **contract.variables(self._request, machine),
            "CURRENT_HOST": contract.HOST,
            "SAGEMAKER_JOB_NAME": str(settings.get("sagemaker_job_name", "")),
            "SAGEMAKER_REGION": str(settings.get("sagemaker_region", self._region)),
            "PYTHONPATH": os.pathsep.join(filter(None, own)),
        }

    def _environment(self, workspace: Workspace) -> dict[str, str]:
        base = base_environment(str(workspace.home), str(workspace.temporary))
        base["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{base['PATH']}"
        region = {"AWS_REGION": self._region, "AWS_DEFAULT_REGION": self._region}
        job = {"TRAINING_JOB_NAME": self._request["TrainingJobName"], "TRAINING_JOB_ARN": self._arn}
        return {**base, **region, **self._aws, **job, **self._request.get("Environment", {})}

    def _fetch_code(self, where: str, workspace: Workspace) -> None:
        """Bring the code to ``/opt/ml/code`` (sagemaker-training, ``files.download_and_extract``)."""
        if where == contract.CODE:
            return
        try:
            if where.startswith("s3://"):
                return workspace.unpack(where, workspace.code)
            if not where.startswith(f"{contract.BASE}/"):
                raise DataError(f"'sagemaker_submit_directory' {where!r} is neither an S3 URI nor a path below /opt/ml")
            path = Path(relocate(where, workspace.ml))
            if path.is_dir():
                shutil.copytree(path, workspace.code, dirs_exist_ok=True)
            elif path.is_file():
                with path.open("rb") as reader:
                    extract(reader, workspace.code, where)
            else:
                raise DataError(f"'sagemaker_submit_directory' {where!r} does not exist in the container")
        except DataError as error:
            raise _Failed(algorithm_error(f"Framework Error: \n{error}", 1)) from error

    def _install(self, code: Path, *, package: bool, script: bool) -> Path | None:
        """The overlay of the job's requirements (a shell script installs its own, as under sagemaker-training)."""
        try:
            if package:
                return overlay.ensure_package(code, self._overlays, self._log, on_process=self._running)
            return overlay.ensure(code, self._overlays, self._log, on_process=self._running) if script else None
        except overlay.OverlayError as error:
            reason = failure_reason("InstallRequirementsError", error.code, error.output, error.command)
            raise _Failed(algorithm_error(reason, 1)) from error
        finally:
            self._running(None)

    def _execute(self, argv: list[str], env: dict[str, str], workspace: Workspace) -> Exit:
        def on_line(line: str) -> None:
            self._output.feed(line)
            self._log(line)

        try:
            process = GuardedProcess.start(
                argv, env=env, cwd=contract.CODE, opt_ml=workspace.ml, on_line=on_line, mounts=self._mounts
            )
        except ProcessError as error:
            raise _Failed(algorithm_error(str(error), 127)) from error
        if not process.private:
            self._log(f"No private /opt/ml is possible here: in arguments and variables it is now {workspace.ml}")
        self._running(process)
        try:
            end = process.wait()
        finally:
            self._running(None)
            self._output.finish()
        if process.failure:
            raise process.failure
        return end or Exit(1)

    def _why(self, end: Exit, argv: list[str], workspace: Workspace) -> str:
        own_words = workspace.failure()
        if "ContainerEntrypoint" in self._request.get("AlgorithmSpecification", {}):
            return algorithm_error(own_words or self._output.error_message(), end.code)
        if own_words is None:
            message = self._output.error_message()
            own_words = failure_reason("ExecuteUserScriptError", end.code, message, " ".join(argv), end.signal)
        return algorithm_error(own_words, 1)
