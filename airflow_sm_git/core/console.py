"""Pages of the SageMaker console."""

from __future__ import annotations

from urllib.parse import quote

_DOMAINS = (("cn-", "console.amazonaws.cn"), ("us-gov-", "console.amazonaws-us-gov.com"))


def console_url(region: str, page: str, name: str) -> str:
    """The page of a resource.

    :param page: ``jobs`` or ``endpoints``.
    :param name: the resource's name.
    """
    domain = next((domain for prefix, domain in _DOMAINS if region.startswith(prefix)), "console.aws.amazon.com")
    return f"https://{region}.{domain}/sagemaker/home?region={region}#/{page}/{quote(name)}"
