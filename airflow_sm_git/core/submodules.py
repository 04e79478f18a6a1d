"""Submodules as ``.gitmodules`` names them: where each lies, and which URL it comes from."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_sm_git.core.urls import is_ssh

MOST_NESTED = 10


def read_modules(config: Iterable[tuple[str, str]]) -> dict[str, str]:
    """URLs by path.

    :param config: keys and values of ``.gitmodules`` as git reads them (gitmodules(5)).
    """
    found: dict[str, dict[str, str]] = {}
    for key, value in config:
        section, _, rest = key.partition(".")
        name, _, variable = rest.rpartition(".")
        if section == "submodule" and name and variable in {"path", "url"}:
            found.setdefault(name, {})[variable] = value
    return {module["path"].strip("/"): module["url"] for module in found.values() if {"path", "url"} <= module.keys()}


def resolve_url(parent: str, url: str) -> str:
    """A submodule's URL, which may be relative to that of the repository it lies in (git-submodule(1), ``add``).

    :param parent: URL of that repository.
    """
    if not url.startswith(("./", "../")):
        return url
    base = parent.rstrip("/")
    between = "/"
    while url.startswith(("./", "../")):
        if url.startswith("./"):
            url = url[2:]
            continue
        url = url[3:]
        cut = max(base.rfind("/"), base.rfind(":") if is_ssh(base) and "://" not in base else -1)
        between = base[cut] if cut >= 0 else "/"
        base = base[: max(cut, 0)]
    return f"{base}{between}{url}".rstrip("/")
