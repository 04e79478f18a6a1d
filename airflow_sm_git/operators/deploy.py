"""Deploy: model, endpoint configuration, endpoint; wait; check what is live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_sm_git.core import errors
from airflow_sm_git.core.records import SCHEMA, Endpoint, Package, TrainingJob
from airflow_sm_git.core.rollout import Asked
from airflow_sm_git.core.sensitive import sensitive_values
from airflow_sm_git.core.status import ENDPOINT_BUSY
from airflow_sm_git.links.sagemaker import EndpointLink
from airflow_sm_git.operators.base import AwsOperator, code_tags, final_errors, is_deferrable, iso, task_key
from airflow_sm_git.operators.values import as_int, as_text_mapping, seconds

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_sm_git.clients.sagemaker import SageMakerClient
    from airflow_sm_git.core.deployment import DeployRequests


class DeployOperator(AwsOperator):
    """Serve a model at an endpoint, and say so only when the endpoint really serves it.

    Without a name the endpoint belongs to this run, and the run's teardown removes it. With one it is a standing
    endpoint: created or updated, never deleted by a teardown. Doing it again changes nothing.

    :param training_job: the `TrainingJob` record of the model; or give `model_data`.
    :param model_data: S3 URI of a model.tar.gz; another one put in its place is noticed, where its ETag can be read.
    :param package: the `Package` record of the hosting code; None for an image that brings its own.
    :param entry_point: the script that serves, if it is not the package's own entry point.
    :param hosting: ``"repack"`` puts the code into the model archive under ``code/`` (what PyTorch, MXNet, TensorFlow
        and Hugging Face images read); ``"s3"`` leaves it in its own archive (scikit-learn, XGBoost).
    :param image_uri: the inference image.
    :param role: execution role, ARN or name; None for the setting.
    :param endpoint_name: a standing endpoint's name; None for the run's own.
    :param endpoint_name_prefix: the readable part of the own endpoint's name; None for the DAG's id.
    :param instance_type: a real one, with a local SageMaker too.
    :param initial_instance_count: how many.
    :param initial_weight: the variant's share of the traffic.
    :param variant_name: the production variant's name.
    :param variants: several production variants, such as two models that share the traffic: a list of dicts, each with
        a ``variant_name`` and those of ``training_job``, ``model_data``, ``package``, ``entry_point``, ``hosting``,
        ``image_uri``, ``environment``, ``instance_type``, ``initial_instance_count``, ``initial_weight``,
        ``volume_size``, ``model_server_workers``, ``container_log_level`` and the two timeouts that differ from the
        operator's own. The record and the endpoint's tags tell of the operator's own package, else of the first's.
    :param volume_size: GiB of each instance's volume.
    :param volume_kms_key: KMS key of the endpoint's volumes.
    :param model_data_download_timeout: how long loading the model may take; seconds or timedelta.
    :param container_startup_health_check_timeout: how long the container may take to answer its first ping.
    :param environment: environment variables of the container.
    :param container_log_level: Python log level of the container.
    :param model_server_workers: processes that serve.
    :param enable_network_isolation: no network in the container.
    :param subnets, security_group_ids: the VPC.
    :param tags: further tags, as a dict.
    :param s3_uri_prefix: where repacked models go; None for the setting.
    :param keep_versions: standing endpoints: how many configurations and models to keep, the live one included. Those
        that have not served, as far as is known, stay for a day besides.
    :param deployment_config: UpdateEndpoint's ``DeploymentConfig``: how an update shifts the traffic, and which alarms
        roll it back. A first deployment has no traffic to shift, so CreateEndpoint does not get it.
    :param config_overrides: laid over the requests last, by API action, such as ``{"CreateEndpointConfig": {…}}``.
    :param wait_for_completion: wait until the endpoint serves the configuration, the end of its rollout included.
        Without it a standing endpoint's tags go on telling of the code that it served before, and old versions stay:
        the next deploy that waits settles both.
    :param check_interval: how often to look.
    :param wait_timeout: how long to wait in all, deferred time included.
    :param deferrable: wait in the triggerer; None for Airflow's ``[operators] default_deferrable``.
    :return: an `Endpoint` record.
    """

    template_fields: Sequence[str] = (
        "training_job",
        "model_data",
        "package",
        "entry_point",
        "hosting",
        "image_uri",
        "role",
        "endpoint_name",
        "endpoint_name_prefix",
        "instance_type",
        "initial_instance_count",
        "initial_weight",
        "variant_name",
        "variants",
        "volume_size",
        "volume_kms_key",
        "model_data_download_timeout",
        "container_startup_health_check_timeout",
        "environment",
        "container_log_level",
        "model_server_workers",
        "enable_network_isolation",
        "subnets",
        "security_group_ids",
        "tags",
        "s3_uri_prefix",
        "keep_versions",
        "deployment_config",
        "config_overrides",
        "wait_timeout",
        *AwsOperator.template_fields,
    )
    operator_extra_links = (EndpointLink(),)

    def __init__(
        self,
        *,
        image_uri: str,
        training_job: TrainingJob | str | None = None,
        model_data: str | None = None,
        package: Package | str | None = None,
        entry_point: str | None = None,
        hosting: str = "repack",
        role: str | None = None,
        endpoint_name: str | None = None,
        endpoint_name_prefix: str | None = None,
        instance_type: str = "ml.m5.large",
        initial_instance_count: int = 1,
        initial_weight: float = 1.0,
        variant_name: str = "AllTraffic",
        variants: Sequence[Mapping[str, Any]] | str = (),
        volume_size: int | None = None,
        volume_kms_key: str | None = None,
        model_data_download_timeout: float | timedelta | None = None,
        container_startup_health_check_timeout: float | timedelta | None = None,
        environment: Mapping[str, str] | None = None,
        container_log_level: int = 20,
        model_server_workers: int | None = None,
        enable_network_isolation: bool = False,
        subnets: Sequence[str] = (),
        security_group_ids: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        s3_uri_prefix: str | None = None,
        keep_versions: int = 2,
        deployment_config: Mapping[str, Any] | None = None,
        config_overrides: Mapping[str, Mapping[str, Any]] | None = None,
        wait_for_completion: bool = True,
        check_interval: float | timedelta = 30,
        wait_timeout: float | timedelta = 3600,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_uri = image_uri
        self.training_job = training_job
        self.model_data = model_data
        self.package = package
        self.entry_point = entry_point
        self.hosting = hosting
        self.role = role
        self.endpoint_name = endpoint_name
        self.endpoint_name_prefix = endpoint_name_prefix
        self.instance_type = instance_type
        self.initial_instance_count = initial_instance_count
        self.initial_weight = initial_weight
        self.variant_name = variant_name
        self.variants = variants
        self.volume_size = volume_size
        self.volume_kms_key = volume_kms_key
        self.model_data_download_timeout = model_data_download_timeout
        self.container_startup_health_check_timeout = container_startup_health_check_timeout
        self.environment = environment
        self.container_log_level = container_log_level
        self.model_server_workers = model_server_workers
        self.enable_network_isolation = enable_network_isolation
        self.subnets = subnets
        self.security_group_ids = security_group_ids
        self.tags = tags
        self.s3_uri_prefix = s3_uri_prefix
        self.keep_versions = keep_versions
        self.deployment_config = deployment_config
        self.config_overrides = config_overrides
        self.wait_for_completion = wait_for_completion
        self.check_interval = check_interval
        self.wait_timeout = wait_timeout
        self.deferrable = deferrable
        self._killed = False

    def secrets(self) -> list[str]:
        """What containers are given in secret."""
        return sensitive_values(self.environment, self.variants, self.config_overrides)

    def run(self, context: Context) -> Endpoint:
        """Bring the endpoint to the requested configuration."""
        as_int("keep_versions", self.keep_versions)  # before anything is made
        patience = seconds("wait_timeout", self.wait_timeout)
        if self.execution_timeout is not None:  # Airflow does not count deferred time into it, so it is done here
            patience = min(patience, self.execution_timeout.total_seconds())
        return self._deploy(context, datetime.now(UTC) + timedelta(seconds=patience), asked=None)

    def resume(self, context: Context, event: dict[str, Any]) -> Endpoint:
        """Go on when the trigger has told that the endpoint has settled, or that time is up."""
        with final_errors(context, self.masked()):
            if self.is_of_earlier_try(context, event):
                return self.run(context)
            self.note_trouble(event)
            memo = event["memo"]
            asked = Asked(**memo["asked"]) if memo["asked"] else None
            return self._deploy(context, datetime.fromisoformat(memo["deadline"]), asked)

    def on_kill(self) -> None:
        """Make nothing more; what is there is left to the teardown, because it may not be deletable yet."""
        self._killed = True

    def _deploy(self, context: Context, deadline: datetime, asked: Asked | None) -> Endpoint:
        """Step on until the endpoint serves; every step can be taken again after a crash.

        :param asked: what this try has asked the endpoint for already.
        """
        from airflow_sm_git.clients.deploying import Deployment

        client = self.aws().sagemaker()
        requests = self._requests(context, client.region)
        name = requests.endpoint["EndpointName"]
        EndpointLink.persist(context, client.region, name)
        said: dict[str, Any] = {"log": self.log.info, "log_end": partial(self._log_end, name)}
        deployment = Deployment(client, requests, killed=lambda: self._killed, **said)
        wait = partial(self._await, context, client, name, deadline)
        endpoint, serves = deployment.settle(asked, wait=wait, to_the_end=self.wait_for_completion)
        if serves:
            keep = None if self._owned else as_int("keep_versions", self.keep_versions)
            deployment.finish(endpoint, task_key(context).namespace, keep)
        return self._record(client, requests, endpoint)

    def _await(
        self, context: Context, client: SageMakerClient, name: str, deadline: datetime, asked: Asked | None
    ) -> None:
        """Wait until the endpoint has settled: here, or deferred."""
        endpoint = client.describe("Endpoint", name)
        status = endpoint["EndpointStatus"] if endpoint else "gone"
        if status not in ENDPOINT_BUSY and status != "Deleting":
            return
        interval = seconds("check_interval", self.check_interval)
        defers = is_deferrable(self.deferrable) and not self._stays and datetime.now(UTC) < deadline
        if defers and endpoint and status != "Deleting":
            from airflow_sm_git.triggers.endpoint import EndpointTrigger

            trigger = EndpointTrigger(
                name,
                since=iso(endpoint["LastModifiedTime"]),
                deadline=iso(deadline),
                check_interval=interval,
                memo={"deadline": iso(deadline), "asked": asked and asdict(asked), "try": context["ti"].try_number},
                **self.connection(),
            )
            self.wait_in_triggerer(trigger)
        last, phase = client.wait("Endpoint", name, check_interval=interval, deadline=deadline.timestamp())
        if last and not phase.ended:
            self._give_up(name, last["EndpointStatus"], deadline)

    def _give_up(self, name: str, status: str, deadline: datetime) -> NoReturn:
        still = f"Endpoint {name!r} was still {status} at {iso(deadline)}"
        if status == "Deleting":
            raise errors.DeployTimedOut(f"{still}.", "Raise wait_timeout, or try again when it is gone.")
        if self._owned:
            after = f"a teardown with policy='always' deletes it, or airflow-sm-git sweep --delete --endpoint {name}."
        else:
            after = "delete it yourself: no teardown and no sweep takes a standing endpoint."
        remedy = f"Raise wait_timeout, or try again to go on waiting; if it is not wanted, {after}"
        raise errors.DeployTimedOut(f"{still}; it is left as it is.{self._log_end(name)}", remedy)

    def _log_end(self, name: str, reason: str = "") -> str:
        from airflow_sm_git.clients.endpoint_log import log_end

        return log_end(self.aws().logs(), name, reason, self.secrets())

    def _requests(self, context: Context, region: str) -> DeployRequests:
        from airflow_sm_git.core.deployment import deploy_requests
        from airflow_sm_git.core.names import make_tags
        from airflow_sm_git.operators.specs import deploy_spec

        spec = deploy_spec(self, task_key(context), region)
        ownership = self.ownership(context)
        if not self._owned:
            ownership.pop("lease-until")  # a standing endpoint has none: no sweep may ever take it
        user_tags = as_text_mapping("tags", self.tags)

        def tags(package: Package | None) -> list[dict[str, str]]:
            return make_tags({**ownership, **code_tags(package)}, user_tags)

        main = spec.package or next((variant.package for variant in spec.variants if variant.package), None)
        return deploy_requests(spec, tags(main), tags)

    @property
    def _owned(self) -> bool:
        from airflow_sm_git.operators.specs import named

        return named(self.endpoint_name) is None

    def _record(self, client: SageMakerClient, requests: DeployRequests, endpoint: dict[str, Any]) -> Endpoint:
        tags = {tag["Key"]: tag["Value"] for tag in requests.endpoint["Tags"]}
        return Endpoint(
            schema=SCHEMA,
            endpoint_name=endpoint["EndpointName"],
            endpoint_arn=endpoint["EndpointArn"],
            endpoint_config_name=requests.endpoint_config["EndpointConfigName"],
            model_name=requests.model["ModelName"],
            commit=tags.get("sm-git:commit", ""),
            digest=tags.get("sm-git:digest", ""),
            region=client.region,
            owned=self._owned,
            lease_until=tags.get("sm-git:lease-until"),
        )
