"""Predict: ask an endpoint; a small answer goes into XCom, a large one to S3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_git.core import errors
from airflow_sm_git.core.records import SCHEMA, Endpoint, Prediction, load
from airflow_sm_git.operators.base import AwsOperator, task_key
from airflow_sm_git.operators.values import as_int

if TYPE_CHECKING:
    from airflow.sdk import Context

MAX_XCOM_BYTES = 48 * 1024


class PredictOperator(AwsOperator):
    """Send one payload to an endpoint.

    :param endpoint: the `Endpoint` record, or an endpoint's name.
    :param data: the payload: bytes and text as they are, anything else in the content type's format.
    :param data_s3_uri: an object to send instead of `data`.
    :param content_type: of the payload: application/json, application/jsonlines, text/csv, or any other for text.
    :param accept: the content type wanted back.
    :param target_variant: ask this production variant.
    :param target_model: ask this model of a multi-model endpoint.
    :param custom_attributes: passed on to the handlers.
    :param inference_id: id under which data capture records the call.
    :param output_s3_uri: S3 prefix for the answer; None for XCom, and for ``predictions/`` under `s3_uri_prefix` when
        it is larger than `max_xcom_bytes`.
    :param max_xcom_bytes: size up to which an answer goes into XCom.
    :param s3_uri_prefix: where large answers go; None for the setting.
    :return: a `Prediction` record.
    """

    template_fields: Sequence[str] = (
        "endpoint",
        "data",
        "data_s3_uri",
        "content_type",
        "accept",
        "target_variant",
        "target_model",
        "custom_attributes",
        "inference_id",
        "output_s3_uri",
        "s3_uri_prefix",
        *AwsOperator.template_fields,
    )

    def __init__(
        self,
        *,
        endpoint: Endpoint | str,
        data: Any = None,
        data_s3_uri: str | None = None,
        content_type: str = "application/json",
        accept: str | None = None,
        target_variant: str | None = None,
        target_model: str | None = None,
        custom_attributes: str | None = None,
        inference_id: str | None = None,
        output_s3_uri: str | None = None,
        max_xcom_bytes: int = MAX_XCOM_BYTES,
        s3_uri_prefix: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.data = data
        self.data_s3_uri = data_s3_uri
        self.content_type = content_type
        self.accept = accept
        self.target_variant = target_variant
        self.target_model = target_model
        self.custom_attributes = custom_attributes
        self.inference_id = inference_id
        self.output_s3_uri = output_s3_uri
        self.max_xcom_bytes = max_xcom_bytes
        self.s3_uri_prefix = s3_uri_prefix

    def run(self, context: Context) -> Prediction:
        """Encode, ask, decode."""
        from airflow_sm_git.core.prediction import decode

        name = self._endpoint_name()
        request = self._request(name)
        try:
            body, answer = self.aws().runtime().invoke(**request)
        except errors.NotFound as error:
            gone = errors.PredictionError(
                f"There is no endpoint {name!r}: {error.what}",
                "If this run's teardown has deleted it, clear the deploy task together with this one.",
            )
            gone.retryable = False
            raise gone from error
        content_type = answer.get("ContentType", "application/octet-stream")
        self.log.info("Endpoint %s answered %d bytes of %s", name, len(body), content_type)
        uri = self._keep(context, body, content_type)
        return Prediction(
            schema=SCHEMA,
            endpoint_name=name,
            variant=answer.get("InvokedProductionVariant", ""),
            content_type=content_type,
            body=None if uri else decode(body, content_type),
            s3_uri=uri,
        )

    def _endpoint_name(self) -> str:
        if isinstance(self.endpoint, str) and not self.endpoint.lstrip().startswith("{"):
            from airflow_sm_git.core.names import check_name

            return check_name("endpoint", self.endpoint)
        return load(Endpoint, "endpoint", self.endpoint)["endpoint_name"]

    def _request(self, name: str) -> dict[str, Any]:
        optional = {
            "Accept": self.accept,
            "TargetVariant": self.target_variant,
            "TargetModel": self.target_model,
            "CustomAttributes": self.custom_attributes,
            "InferenceId": self.inference_id,
        }
        request = {key: value for key, value in optional.items() if value}
        return {"EndpointName": name, "ContentType": self.content_type, "Body": self._payload(), **request}

    def _payload(self) -> bytes:
        from airflow_sm_git.core.prediction import encode

        if not self.data_s3_uri:
            if self.data is None:
                raise errors.BadParameter("data", None, "there is nothing to send", "Give data or data_s3_uri.")
            return encode(self.data, self.content_type)
        if self.data is not None:
            raise errors.BadParameter(
                "data_s3_uri", self.data_s3_uri, "given together with data", "Give one of the two."
            )
        return encode(self._read(self.data_s3_uri), self.content_type)

    def _read(self, uri: str) -> bytes:
        from airflow_sm_git.core.checks import check_s3_object

        store = self.aws().store(check_s3_object("data_s3_uri", uri))  # of its bucket, which need not be ours
        try:
            return b"".join(store.read(uri))
        except errors.NotFound as error:
            problem = "there is no such object, or no such bucket"
            raise errors.BadParameter("data_s3_uri", uri, problem, "Put it there, or correct the URI.") from error

    def _keep(self, context: Context, body: bytes, content_type: str) -> str | None:
        """Put an answer to S3 if it is asked for, or too large for XCom."""
        if not self.output_s3_uri and len(body) <= as_int("max_xcom_bytes", self.max_xcom_bytes):
            return None
        from airflow_sm_git.core.checks import check_s3_uri

        prefix = check_s3_uri("output_s3_uri", self.output_s3_uri) if self.output_s3_uri else self.s3_uri_prefix
        folder = "" if self.output_s3_uri else "predictions/"
        uri = self.aws().store(prefix or None).put(f"{folder}{task_key(context).hash}.out", body, content_type)
        self.log.info("The answer (%d bytes, %s) is at %s", len(body), content_type, uri)
        return uri
