"""STS GetCallerIdentity and IAM GetRole.

Source: AWS STS API reference, GetCallerIdentity; IAM API reference, GetRole.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, quote

from starlette.responses import Response

from airflow_sm_git.local import wire
from airflow_sm_git.local.errors import api_error
from airflow_sm_git.local.exchange import Exchange
from airflow_sm_git.local.state import Info

ROLES = ("sm-git-local", "SageMakerRole")
_STS_VERSION = "2011-06-15"
_IAM_VERSION = "2010-05-08"
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}
Fields = dict[str, str]


class _Query:
    version: str
    namespace: str

    def __init__(self, actions: dict[str, Callable[[Fields], wire.Node]]) -> None:
        self._actions = actions

    def handle(self, exchange: Exchange, body: bytes) -> Response:
        """Answer one request of the Query protocol.

        :raises ApiError: the action is not known, or refuses.
        """
        fields = {key: values[0] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}
        exchange.action = fields.get("Action", "")
        exchange.resource = fields.get("RoleName", "")
        action = self._actions.get(exchange.action)
        if not action:
            version = fields.get("Version", self.version)
            raise api_error("query.unknown_action", action=exchange.action, version=version)
        return wire.query_response(exchange.action, action(fields), self.namespace, exchange.id)


class Sts(_Query):
    """The one identity there is: a user of the local account."""

    version = _STS_VERSION
    namespace = f"https://sts.amazonaws.com/doc/{_STS_VERSION}/"

    def __init__(self, info: Info) -> None:
        super().__init__({"GetCallerIdentity": self._identity})
        self._info = info

    def _identity(self, _: Fields) -> wire.Node:
        account = self._info.account
        return {"Arn": f"arn:aws:iam::{account}:user/sm-git-local", "UserId": _id("AIDA", "user"), "Account": account}


class Iam(_Query):
    """Roles, from a file with one name a line.

    :param roles: that file, made when missing.
    """

    version = _IAM_VERSION
    namespace = f"https://iam.amazonaws.com/doc/{_IAM_VERSION}/"

    def __init__(self, info: Info, roles: Path) -> None:
        super().__init__({"GetRole": self._get_role})
        self._info = info
        self._roles = roles
        if not roles.exists():
            roles.write_text("\n".join(ROLES) + "\n")

    def _get_role(self, fields: Fields) -> wire.Node:
        name = fields.get("RoleName", "")
        if not re.fullmatch(r"[\w+=,.@-]{1,64}", name, re.ASCII):
            raise api_error("iam.bad_role")
        if name not in self._roles.read_text().split():
            raise api_error("iam.no_role", name=name)
        return {
            "Role": {
                "Path": "/",
                "RoleName": name,
                "RoleId": _id("AROA", name),
                "Arn": f"arn:aws:iam::{self._info.account}:role/{name}",
                "CreateDate": wire.iso(int(self._roles.stat().st_mtime)),
                "AssumeRolePolicyDocument": quote(json.dumps(_TRUST), safe=""),
                "MaxSessionDuration": 3600,
            }
        }


def _id(prefix: str, name: str) -> str:
    return prefix + hashlib.sha256(name.encode()).hexdigest()[:17].upper()
