"""``git_config``'s secrets, kept out of what Airflow stores in clear.

Airflow stores a DAG's structure as JSON in its database. An operator's ``git_config`` is not in it, but the arguments
of anything that is mapped are, and so are the DAG's ``default_args``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.mappedoperator import OperatorPartial

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.in_clear import SECRETS, in_clear, is_in_clear, warning

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.definitions.mappedoperator import MappedOperator


def refuse_mapped(git_config: object, what: str = "a mapped task") -> None:
    """Refuse a ``git_config`` that Airflow would store in clear.

    :param git_config: one, or some to map over; anything else, such as another task's output, has no secret in the
        DAG's code.
    :raises BadParameter: it holds a token or a password that is no template.
    """
    several = git_config if isinstance(git_config, Sequence) and not isinstance(git_config, str) else [git_config]
    if any(in_clear(each) for each in several):
        raise BadParameter(
            "git_config",
            "***",
            f"holds a secret, which Airflow would store in clear for {what}",
            "Use git_conn_id, or a template that fetches the secret, such as '{{ var.value.git_token }}'.",
        )


def guarded(partial: Any) -> Any:
    """Let an operator's ``partial`` refuse secrets in what it is expanded over, too."""
    partial.__class__ = _Guarded
    return partial


class _Guarded(OperatorPartial):
    __slots__ = ()

    def expand(self, **mapped_kwargs: Any) -> MappedOperator:
        try:
            refuse_mapped(mapped_kwargs.get("git_config"))
        except BadParameter:
            self._expand_called = True  # or Airflow warns of what was never mapped, and names it
            raise
        return super().expand(**mapped_kwargs)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> MappedOperator:
        try:
            for each in kwargs if isinstance(kwargs, Sequence) else ():
                refuse_mapped(each.get("git_config") if isinstance(each, Mapping) else None)
        except BadParameter:
            self._expand_called = True
            raise
        return super().expand_kwargs(kwargs, strict=strict)


def refuse_stored(operator: BaseOperator, git_config: object) -> None:
    """Refuse a ``git_config`` that is in ``default_args`` of the operator's DAG, or mapped over by a task group.

    :raises BadParameter: it holds a token or a password that is no template.
    """
    if not git_config:
        return
    dag = operator.get_dag()
    if dag is not None:
        refuse_mapped(dag.default_args.get("git_config"), "default_args of a DAG")
    for value in _stubs(git_config):
        refuse_mapped(value, "a mapped task group")
    if isinstance(git_config, Mapping) and any(is_in_clear(v) for key in SECRETS for v in _stubs(git_config.get(key))):
        refuse_mapped({"token": "stands in the group's arguments"}, "a mapped task group")


def _stubs(value: object) -> Iterable[Any]:
    """The values that a task group maps over where ``value`` stands for one of them, as far as the code has them."""
    mapped = getattr(getattr(value, "_input", None), "value", None)
    key = getattr(value, "_key", None)
    if isinstance(mapped, Mapping):
        values = mapped.get(key)
        return values if isinstance(values, Sequence) and not isinstance(values, str) else ()
    rows = mapped if isinstance(mapped, Sequence) else ()
    return [row.get(key) for row in rows if isinstance(row, Mapping)]


def rendered(operator: BaseOperator, context: Context) -> Mapping[str, Any] | None:
    """An operator's ``git_config`` with its templates filled in; its secrets are masked in every log from here on.

    Warns of secrets in the DAG's code.
    """
    from airflow_sm_git.compat import mask_secret

    given = getattr(operator, "git_config", None)
    if not given:
        return None
    config: Mapping[str, Any] = operator.render_template(given, context)
    if isinstance(config, Mapping):
        for key in SECRETS:
            if config.get(key):
                mask_secret(str(config[key]))
        if keys := in_clear(given):
            operator.log.warning("%s", warning(config, keys))
    return config
