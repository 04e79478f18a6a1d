"""Train: exactly one billable job for one task instance, whatever crashes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from airflow_sm_git.core import errors
from airflow_sm_git.core.lease import DETACHED
from airflow_sm_git.core.records import SCHEMA, Package, TrainingJob
from airflow_sm_git.core.sensitive import hidden, sensitive_values
from airflow_sm_git.core.status import TRAINING_JOB, Phase, phase
from airflow_sm_git.links.sagemaker import TrainingJobLink
from airflow_sm_git.operators import abandonment
from airflow_sm_git.operators.base import AwsOperator, code_tags, final_errors, is_deferrable, iso, task_key
from airflow_sm_git.operators.values import as_text_mapping, seconds

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_sm_git.clients.job_log import Position
    from airflow_sm_git.clients.sagemaker import SageMakerClient
    from airflow_sm_git.core.training import TrainSpec


LOG_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, None)  # seconds between attempts to read the last of a log


class TrainOperator(AwsOperator):
    """Train a package's code in a SageMaker training job and wait for it.

    A retry finds the job that an earlier try submitted: it waits for it, takes its result, or submits the next
    attempt; never two at once (`core.attempts`). Names are those of the SageMaker SDK's ``Estimator``; durations are
    seconds or timedelta, sizes GiB.

    :param package: the `Package` record of the code; None for an image that brings its own.
    :param image_uri: the training image.
    :param role: execution role, ARN or name; None for the setting.
    :param instance_type: a real one, with a local SageMaker too.
    :param instance_count: how many.
    :param volume_size: GiB of each instance's volume.
    :param volume_kms_key: KMS key of the volumes.
    :param output_path: S3 prefix for the model; None for ``output/`` under `s3_uri_prefix`.
    :param output_kms_key: KMS key of the model.
    :param disable_output_compression: upload the model's files as they are.
    :param keep_alive_period: warm pool: how long the instances stay.
    :param hyperparameters: dict; values are JSON-encoded under ``encoding="json"`` (script mode), ``"plain"`` for
        built-in algorithms.
    :param encoding: see `hyperparameters`.
    :param inputs: data: a URI (channel ``training``), a dict of channels, or full channel dicts; ``file://`` is
        uploaded by digest.
    :param input_mode: File, FastFile or Pipe.
    :param metric_definitions: ``[{"Name": …, "Regex": …}]``, searched for in what the script prints.
    :param environment: environment variables of the container.
    :param container_log_level: Python log level of the container.
    :param max_run: how long the job may run.
    :param max_wait: spot: how long it may take, waiting for capacity included.
    :param max_pending: how long it may wait for capacity.
    :param max_retry_attempts: how often SageMaker itself retries after an internal error.
    :param use_spot_instances: train on spot capacity.
    :param checkpoint_s3_uri: where checkpoints are kept.
    :param checkpoint_local_path: where the script writes them.
    :param subnets, security_group_ids: the VPC.
    :param enable_network_isolation: no network in the container; the code comes in as channel ``code``.
    :param encrypt_inter_container_traffic: between instances.
    :param tags: further tags, as a dict.
    :param job_name_prefix: the readable part of the job's name; None for the DAG's id.
    :param s3_uri_prefix: where inputs and outputs go; None for the setting.
    :param config_overrides: laid over the CreateTrainingJob request last, and checked against the API's model.
    :param wait_for_completion: wait for the job's end; else its record is returned as submitted.
    :param check_interval: how often to look.
    :param wait_timeout: how long each try waits in all, deferred time included; then the job is stopped. None for an
        hour more than the job itself may take. ``execution_timeout`` counts deferred time too.
    :param print_log: print the job's log while it runs, deferred too, each line once and 20,000 at most.
    :param deferrable: wait in the triggerer; None for Airflow's ``[operators] default_deferrable``.
    :param cancel_on_kill: stop the job when the task is killed, or fails for good while the job runs.
    :return: a `TrainingJob` record.
    """

    template_fields: Sequence[str] = (
        "package",
        "image_uri",
        "role",
        "instance_type",
        "instance_count",
        "volume_size",
        "volume_kms_key",
        "output_path",
        "output_kms_key",
        "disable_output_compression",
        "keep_alive_period",
        "hyperparameters",
        "encoding",
        "inputs",
        "input_mode",
        "metric_definitions",
        "environment",
        "container_log_level",
        "max_run",
        "max_wait",
        "max_pending",
        "max_retry_attempts",
        "use_spot_instances",
        "checkpoint_s3_uri",
        "checkpoint_local_path",
        "subnets",
        "security_group_ids",
        "enable_network_isolation",
        "encrypt_inter_container_traffic",
        "tags",
        "job_name_prefix",
        "s3_uri_prefix",
        "config_overrides",
        "wait_timeout",
        *AwsOperator.template_fields,
    )
    template_fields_renderers = {"hyperparameters": "json", "inputs": "json", "config_overrides": "json"}  # noqa: RUF012
    operator_extra_links = (TrainingJobLink(),)

    def __init__(
        self,
        *,
        package: Package | str | None,
        image_uri: str,
        role: str | None = None,
        instance_type: str = "ml.m5.xlarge",
        instance_count: int = 1,
        volume_size: int = 30,
        volume_kms_key: str | None = None,
        output_path: str | None = None,
        output_kms_key: str | None = None,
        disable_output_compression: bool = False,
        keep_alive_period: float | timedelta | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        encoding: str = "json",
        inputs: Any = None,
        input_mode: str = "File",
        metric_definitions: Sequence[Mapping[str, str]] = (),
        environment: Mapping[str, str] | None = None,
        container_log_level: int = 20,
        max_run: float | timedelta = 86400,
        max_wait: float | timedelta | None = None,
        max_pending: float | timedelta | None = None,
        max_retry_attempts: int | None = None,
        use_spot_instances: bool = False,
        checkpoint_s3_uri: str | None = None,
        checkpoint_local_path: str | None = None,
        subnets: Sequence[str] = (),
        security_group_ids: Sequence[str] = (),
        enable_network_isolation: bool = False,
        encrypt_inter_container_traffic: bool = False,
        tags: Mapping[str, str] | None = None,
        job_name_prefix: str | None = None,
        s3_uri_prefix: str | None = None,
        config_overrides: Mapping[str, Any] | None = None,
        wait_for_completion: bool = True,
        check_interval: float | timedelta = 30,
        wait_timeout: float | timedelta | None = None,
        print_log: bool = True,
        deferrable: bool | None = None,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.package = package
        self.image_uri = image_uri
        self.role = role
        self.instance_type = instance_type
        self.instance_count = instance_count
        self.volume_size = volume_size
        self.volume_kms_key = volume_kms_key
        self.output_path = output_path
        self.output_kms_key = output_kms_key
        self.disable_output_compression = disable_output_compression
        self.keep_alive_period = keep_alive_period
        self.hyperparameters = hyperparameters
        self.encoding = encoding
        self.inputs = inputs
        self.input_mode = input_mode
        self.metric_definitions = metric_definitions
        self.environment = environment
        self.container_log_level = container_log_level
        self.max_run = max_run
        self.max_wait = max_wait
        self.max_pending = max_pending
        self.max_retry_attempts = max_retry_attempts
        self.use_spot_instances = use_spot_instances
        self.checkpoint_s3_uri = checkpoint_s3_uri
        self.checkpoint_local_path = checkpoint_local_path
        self.subnets = subnets
        self.security_group_ids = security_group_ids
        self.enable_network_isolation = enable_network_isolation
        self.encrypt_inter_container_traffic = encrypt_inter_container_traffic
        self.tags = tags
        self.job_name_prefix = job_name_prefix
        self.s3_uri_prefix = s3_uri_prefix
        self.config_overrides = config_overrides
        self.wait_for_completion = wait_for_completion
        self.check_interval = check_interval
        self.wait_timeout = wait_timeout
        self.print_log = print_log
        self.deferrable = deferrable
        self.cancel_on_kill = cancel_on_kill
        self.job_name: str | None = None
        self.submitting = False
        self.insist_seconds = abandonment.INSIST_SECONDS
        self._ti: Any = None
        self._killed = False
        self._log_position: Position | None = None
        self._log_is_readable = True

    def secrets(self) -> list[str]:
        """What the job is given in secret."""
        return sensitive_values(self.environment, self.hyperparameters, self.config_overrides)

    def run(self, context: Context) -> TrainingJob:
        """Submit, or find what an earlier try submitted, and wait."""
        from airflow_sm_git.operators.specs import train_spec

        self._ti = context["ti"]

        with abandonment.never_abandoned(self, context):
            client = self.aws().sagemaker()
            spec = train_spec(self, client.region)
            deadline = datetime.now(UTC) + timedelta(seconds=self._patience(client, spec))
            self.submitting = True
            name, attached = self._submit(context, client, spec, deadline)
            self.job_name, self._log_position = name, None  # that of a job that was replaced is another's
            if self._killed:  # while the job was being submitted
                self.on_kill()
            TrainingJobLink.persist(context, client.region, name)
            job = client.look("TrainingJob", name, deadline=deadline.timestamp())
            if job is None:
                raise _gone(name)
            if not self.wait_for_completion:
                return self._record(client, job, attached)
            ended = phase(TRAINING_JOB, job["TrainingJobStatus"]).ended
            if not ended and is_deferrable(self.deferrable) and not self._stays:
                self._defer(context, job, deadline, attached)
            return self._finish(context, client, name, deadline, attached)

    def resume(self, context: Context, event: dict[str, Any]) -> TrainingJob:
        """Go on when the trigger has told that the job ended, or that time is up."""
        with final_errors(context, self.masked()):
            if self.is_of_earlier_try(context, event):
                return self.run(context)
            self.note_trouble(event)
            memo = event["memo"]
            deadline = datetime.fromisoformat(memo["deadline"])
            self._log_position = memo.get("log")
            self._ti, self.job_name = context["ti"], memo["name"]
            with abandonment.never_abandoned(self, context):
                return self._finish(context, self.aws().sagemaker(), memo["name"], deadline, memo["attached"])

    def on_kill(self) -> None:
        """Stop the job, if somebody has ended the task; see `operators.abandonment`."""
        self._killed = True
        if self.cancel_on_kill:
            abandonment.stop_if_killed_for_good(self, self._ti)

    def _patience(self, client: SageMakerClient, spec: TrainSpec) -> float:
        """Seconds to wait in all. Airflow counts no deferred time into ``execution_timeout``, so it is done here."""
        from airflow_sm_git.clients.submission import draft_request
        from airflow_sm_git.core.training import longest

        given = self.execution_timeout.total_seconds() if self.execution_timeout else inf
        if self.wait_timeout not in (None, ""):
            return min(given, seconds("wait_timeout", self.wait_timeout))
        return min(given, longest(draft_request(client, spec)) + 3600.0)

    def _submit(
        self, context: Context, client: SageMakerClient, spec: TrainSpec, deadline: datetime
    ) -> tuple[str, bool]:
        """The name of the job to wait for, and whether an earlier try had submitted it."""
        from airflow_sm_git.clients.submission import Order, submit

        detached = {} if self.wait_for_completion else {DETACHED: "true"}
        order = Order(
            spec=spec,
            key=task_key(context),
            generation=context["ti"].max_tries,  # only clearing changes it: an edit of `retries` does not
            prefix=self.job_name_prefix or None,
            tags={**self.ownership(context, at_least=deadline), **code_tags(spec.package), **detached},
            user_tags=as_text_mapping("tags", self.tags),
        )

        def wait(name: str) -> bool:
            return self._wait(client, name, deadline)[1].ended

        return submit(client, order, wait=wait, log=self.log.info, tell=partial(setattr, self, "job_name"))

    def _defer(self, context: Context, job: dict[str, Any], deadline: datetime, attached: bool) -> None:
        from airflow_sm_git.triggers.training_job import TrainingJobTrigger

        name = job["TrainingJobName"]
        trigger = TrainingJobTrigger(
            name,
            since=iso(job["CreationTime"]),
            deadline=iso(deadline),
            check_interval=seconds("check_interval", self.check_interval),
            memo={"name": name, "deadline": iso(deadline), "attached": attached, "try": context["ti"].try_number},
            cancel_on_kill=self.cancel_on_kill,
            print_log=self.print_log,
            has_secrets=bool(self.secrets()),
            **self.connection(),
        )
        self.wait_in_triggerer(trigger)

    def _wait(self, client: SageMakerClient, name: str, deadline: datetime) -> tuple[dict[str, Any] | None, Phase]:
        return client.wait(
            "TrainingJob",
            name,
            check_interval=seconds("check_interval", self.check_interval),
            deadline=deadline.timestamp(),
            each=partial(self._show_log, name),
        )

    def _finish(
        self, context: Context, client: SageMakerClient, name: str, deadline: datetime, attached: bool
    ) -> TrainingJob:
        from airflow_sm_git.clients.jobs import failure, stop_job

        job, result = self._wait(client, name, deadline)
        if result is Phase.RUNNING:
            if abandonment.insist_on_stop(self, lambda: stop_job(client, name, "timeout"), self.insist_seconds):
                raise errors.TrainingTimedOut(
                    f"Training job {name!r} had not ended by {iso(deadline)} and was stopped.",
                    "Raise max_run or wait_timeout.",
                )
            job, result = self._wait(client, name, deadline)  # it has ended since, or somebody else is stopping it
        if job is None:
            raise _gone(name)
        self._show_log(name, whole=True)
        if result is not Phase.SUCCEEDED:
            context["ti"].xcom_push(key="return_value", value=self._record(client, job, attached))  # for the report
            secrets = self.secrets()
            job["FailureReason"] = hidden(job.get("FailureReason", ""), secrets)
            raise failure(client, job, result, [hidden(line, secrets) for line in self._last_lines(name)])
        return self._record(client, job, attached)

    def _show_log(self, name: str, whole: bool = False) -> None:
        """Print what the job has written since; a job does not fail for a log that cannot be read."""
        from airflow_sm_git.clients.job_log import beginning, read_on
        from airflow_sm_git.task_log import show

        for pause in LOG_PAUSES if whole else (None,):
            if not self.print_log or not self._log_is_readable:
                return
            try:
                position = self._log_position or beginning()
                lines, self._log_position = read_on(self.aws().logs(), name, position, whole=whole)
            except errors.SmGitError as error:
                if not error.retryable or (whole and pause is None):
                    self.log.warning("The log of training job %s cannot be read: %s", name, error)
                    self._log_is_readable = False
                time.sleep(pause or 0.0)
            else:
                return show(lines)

    def _last_lines(self, name: str) -> list[str]:
        from airflow_sm_git.clients.job_log import read_log

        try:
            return read_log(self.aws().logs(), name, limit=20)
        except errors.SmGitError as error:
            self.log.warning("The end of the log of training job %s cannot be read: %s", name, error)
            return []

    def _record(self, client: SageMakerClient, job: dict[str, Any], attached: bool) -> TrainingJob:
        from airflow_sm_git.operators.specs import package_of

        package = package_of(self)
        metrics = {item["MetricName"]: float(item["Value"]) for item in job.get("FinalMetricDataList", [])}
        times = {key: job.get(key) for key in ("TrainingStartTime", "TrainingEndTime")}
        return TrainingJob(
            schema=SCHEMA,
            job_name=job["TrainingJobName"],
            job_arn=job["TrainingJobArn"],
            status=job["TrainingJobStatus"],
            model_data=job.get("ModelArtifacts", {}).get("S3ModelArtifacts"),
            commit=package["commit"] if package else "",
            digest=package["digest"] if package else "",
            metrics=metrics,
            billable_seconds=job.get("BillableTimeInSeconds"),
            started_at=iso(times["TrainingStartTime"]) if times["TrainingStartTime"] else None,
            ended_at=iso(times["TrainingEndTime"]) if times["TrainingEndTime"] else None,
            region=client.region,
            attached=attached,
        )


def _gone(name: str) -> errors.TrainingFailed:
    return errors.TrainingFailed(f"Training job {name!r} is gone.", "Clear the task to train again.")
