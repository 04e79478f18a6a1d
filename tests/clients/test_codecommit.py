"""CodeCommit: the same signatures as git-remote-codecommit's, and a server that checks them for itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from airflow_sm_git.clients.codecommit import AwsKeys, CodeCommitLogin, sign
from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.clients.git_access import access_for
from airflow_sm_git.core.codecommit import Repository, parse_short, reached_at, region_of
from airflow_sm_git.core.credentials import Credentials
from airflow_sm_git.core.errors import AuthenticationFailed, BadParameter
from airflow_sm_git.core.source import Source
from airflow_sm_git.core.urls import check_url, is_codecommit, is_ssh, web_url
from airflow_sm_git.hooks.git import git_client, read_source
from tests import git_server
from tests.clients.packaging import FILES, package
from tests.clients.test_git_login import everything_said
from tests.https_server import proxy_to, serve_https
from tests.peer_environments import CHECKOUT, peer_python

SHORT = "codecommit::eu-west-1://models"
HTTPS = "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/models"
KEYS = AwsKeys("AKIDEXAMPLE", "canary-secret/Key+=", "canary/session+token==")
MOMENT = datetime(2026, 11, 21, 3, 59, 59, tzinfo=UTC)

REGIONS = [
    "us-east-1",
    "eu-central-1",
    "ap-southeast-2",
    "us-gov-west-1",
    "us-gov-east-1",
    "cn-north-1",
    "cn-northwest-1",
]
NAMES = ["models", "a", "Team.Models_2-x", "x" * 100, "repo.git", "...a", "_-"]


@pytest.mark.slow
def test_signatures_are_those_of_git_remote_codecommit() -> None:
    cases, mine = [], []
    moments = [MOMENT, datetime(2024, 2, 29, tzinfo=UTC), datetime(2026, 12, 31, 23, 59, 59, 999999, UTC)]
    secrets = ["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "a+/=", "ü"]
    tokens = [None, "IQoJb3JpZ2luX2VjEA//////////wEaCXVz+/=", "x%2F%y@:&", "t" * 1500]
    for n, (region, name) in enumerate(itertools.product(REGIONS, NAMES)):
        keys = AwsKeys(f"AKID{n}", secrets[n % 3], tokens[n // 3 % 4])
        variables = {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}
        variables |= {"AWS_SESSION_TOKEN": keys.token} if keys.token else {}
        url, moment = f"codecommit::{region}://{name}", moments[n % len(moments)]
        mine.append((check_url(url), keys, moment))
        if n % 10 == 0:  # the form that leaves the region to the machine
            url, variables["AWS_DEFAULT_REGION"] = f"codecommit://{name}", region
        cases.append({"url": url, "time": moment.isoformat(), "environment": variables})
    python = peer_python("git-remote-codecommit", ["git-remote-codecommit==1.17", "freezegun==1.5.5", "setuptools<81"])
    program = [python, "-m", "tests.clients.codecommit_peer"]
    done = subprocess.run(program, input=json.dumps(cases), capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert done.returncode == 0, done.stderr
    theirs = [urlsplit(url) for url in json.loads(done.stdout)]
    for peer, (short, keys, moment) in zip(theirs, mine, strict=True):
        url = reached_at(short)
        assert url == f"https://{peer.hostname}{peer.path}"
        assert sign(url, region_of(url) or "", keys, moment) == (unquote(peer.username or ""), peer.password)


@pytest.mark.parametrize(
    ("url", "region", "profile", "name"),
    [
        ("codecommit::us-east-1://models", "us-east-1", None, "models"),
        ("codecommit::us-gov-west-1://team@models", "us-gov-west-1", "team", "models"),
        ("codecommit://models", None, None, "models"),
        ("codecommit://my profile@models", None, "my profile", "models"),
    ],
)
def test_short_urls_are_read_as_by_git_remote_codecommit(
    url: str, region: str | None, profile: str | None, name: str
) -> None:
    assert parse_short(url) == Repository(name, region, profile)
    assert parse_short(url).short == url
    assert is_codecommit(url)
    assert not is_ssh(url)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("codecommit::://models", "not the name of an AWS region"),
        ("codecommit::ext://models", "not the name of an AWS region"),
        ("codecommit::eu-west-1.evil.com/://models", "not the name of an AWS region|not a URL"),
        ("codecommit::eu-west-1://", "not the name of a CodeCommit repository"),
        ("codecommit::eu-west-1://a/b", "not the name of a CodeCommit repository"),
        ("codecommit::eu-west-1://..", "not the name of a CodeCommit repository"),
        ("codecommit::eu-west-1://-x", "not the name of a CodeCommit repository"),
        ("codecommit::eu-west-1://models?x", "not the name of a CodeCommit repository"),
        ("codecommit::eu-west-1://@models", "names no profile"),
        ("codecommit::eu-west-1://-p@models", "names no profile"),
        ("codecommit::eu-west-1://AKID:canary@models", "credentials are refused"),
        ("codecommit::eu-west-1", "not a URL"),
        ("codecommit::https://example.com/x", "not the name of an AWS region"),
    ],
)
def test_short_urls_that_mean_nothing_or_hide_something_are_refused(url: str, problem: str) -> None:
    with pytest.raises(BadParameter, match=problem) as error:
        check_url(url)
    assert "canary" not in everything_said(error.value)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        (HTTPS, "eu-west-1"),
        ("https://git-codecommit-fips.us-gov-west-1.amazonaws.com/v1/repos/models", "us-gov-west-1"),
        ("https://git-codecommit.cn-north-1.amazonaws.com.cn/v1/repos/models", "cn-north-1"),
        ("https://git-codecommit.us-east-1.amazonaws.com:443/v1/repos/models", "us-east-1"),
        ("https://git-codecommit.us-east-1.amazonaws.com.evil.example/v1/repos/models", None),
        ("https://evil.example/git-codecommit.us-east-1.amazonaws.com/v1/repos/models", None),
        ("https://git-codecommit.us-east-1.amazonaws.com@evil.example/v1/repos/models", None),
        ("https://git-codecommit.us-east-1.amazonaws.com:8443/v1/repos/models", None),
        ("http://git-codecommit.us-east-1.amazonaws.com/v1/repos/models", None),
        ("ssh://git-codecommit.us-east-1.amazonaws.com/v1/repos/models", None),
        ("https://github.com/org/repo", None),
    ],
)
def test_only_hosts_of_codecommit_are_signed_for(url: str, region: str | None, tmp_path: Path) -> None:
    assert region_of(url) == region
    access = access_for(CodeCommitLogin(lambda: KEYS), url, tmp_path) if not is_ssh(url) else None
    assert bool(access and access.environment) == (region is not None)


@pytest.mark.parametrize(
    ("url", "page"),
    [
        (
            "codecommit::eu-west-1://models",
            "https://eu-west-1.console.aws.amazon.com/codesuite/codecommit/repositories/models/commit/abc?region=eu-west-1",
        ),
        (
            "codecommit::cn-north-1://team@models",
            "https://cn-north-1.console.amazonaws.cn/codesuite/codecommit/repositories/models/commit/abc?region=cn-north-1",
        ),
        (
            "https://git-codecommit-fips.us-gov-west-1.amazonaws.com/v1/repos/models",
            "https://us-gov-west-1.console.amazonaws-us-gov.com/codesuite/codecommit/repositories/models/commit/abc?region=us-gov-west-1",
        ),
        (
            "ssh://APKA@git-codecommit.eu-west-1.amazonaws.com/v1/repos/models",
            "https://eu-west-1.console.aws.amazon.com/codesuite/codecommit/repositories/models/commit/abc?region=eu-west-1",
        ),
    ],
)
def test_the_page_of_a_commit_is_in_the_console_of_its_partition(url: str, page: str) -> None:
    assert web_url(url, "abc") == page


@dataclass
class CodeCommit:
    """What CodeCommit does with a login: checks the signature over the repository's path, and how old it is.

    Written from the rules of Signature Version 4 (IAM User Guide, "Create a signed request"), not with botocore.

    :param static: user name and password of a user, which are let in too.
    :param seen: user name and password of every request.
    """

    keys: AwsKeys = KEYS
    region: str = "eu-west-1"
    static: tuple[str, str] | None = None
    seen: list[tuple[str, str]] = field(default_factory=list)

    def lets_in(self, authorization: str | None, path: str) -> bool:
        """Whether the request may read the repository."""
        if not authorization or not authorization.startswith("Basic "):
            return False
        user, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
        self.seen.append((user, password))
        if self.static:
            return (user, password) == self.static
        time, _, signature = password.partition("Z")
        if abs(datetime.strptime(f"{time}+0000", "%Y%m%dT%H%M%S%z") - datetime.now(UTC)) > timedelta(minutes=15):
            return False
        repository = "/".join(path.split("/")[:4])
        host = f"git-codecommit.{self.region}.amazonaws.com"
        request = hashlib.sha256(f"GIT\n{repository}\n\nhost:{host}\n\nhost\n".encode()).hexdigest()
        key = f"AWS4{self.keys.secret_key}".encode()
        for part in (time[:8], self.region, "codecommit", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        scope = f"{time[:8]}/{self.region}/codecommit/aws4_request"
        wanted = hmac.digest(key, f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{request}".encode(), "sha256").hex()
        expected = f"{self.keys.access_key}%{self.keys.token}" if self.keys.token else self.keys.access_key
        return user == expected and signature == wanted


@pytest.fixture
def repository(tmp_path: Path) -> git_server.Repository:
    made = git_server.Repository(tmp_path / "served" / "v1" / "repos" / "models")
    made.commit(FILES)
    return made


@pytest.fixture
def aws(repository: git_server.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CodeCommit]:
    """CodeCommit's host on loopback: behind a proxy that leads there, and with a certificate that git is told of."""
    codecommit = CodeCommit()
    with serve_https(tmp_path / "served", tmp_path) as (server, authority), proxy_to(server.port) as proxy:
        server.judge = codecommit.lets_in
        monkeypatch.setenv("https_proxy", proxy)
        monkeypatch.setenv("GIT_SSL_CAINFO", str(authority))
        monkeypatch.setenv("AIRFLOW__SM_GIT__CACHE_DIR", str(tmp_path / "cache"))
        connect(monkeypatch, KEYS)
        yield codecommit


def connect(monkeypatch: pytest.MonkeyPatch, keys: AwsKeys) -> None:
    """Make ``aws_default`` a connection with these credentials."""
    extra = {"region_name": "eu-west-1"} | ({"aws_session_token": keys.token} if keys.token else {})
    connection = {"conn_type": "aws", "login": keys.access_key, "password": keys.secret_key, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))


@pytest.mark.parametrize("url", [SHORT, HTTPS])
@pytest.mark.parametrize("token", [None, KEYS.token], ids=["lasting", "temporary"])
def test_a_repository_is_read_with_the_aws_connection_alone(
    aws: CodeCommit,
    repository: git_server.Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    token: str | None,
) -> None:
    aws.keys = AwsKeys("AKIDEXAMPLE", KEYS.secret_key, token)
    connect(monkeypatch, aws.keys)
    source = read_source(url, "main", None, None)
    client = git_client(source.credentials)
    found = client.resolve(source)
    assert (found.repo, found.commit) == (url, repository.sha("main"))
    # Another machine starts from the record alone.
    monkeypatch.setenv("AIRFLOW__SM_GIT__CACHE_DIR", str(tmp_path / "other"))
    again = read_source(found.repo, None, None, None)
    _, contents = package(git_client(again.credentials), found.repo, found.commit)
    assert contents["train.py"] == FILES["src/train.py"]
    secrets = [aws.keys.secret_key, *([token] if token else []), *(password for _, password in aws.seen)]
    for folder in ("cache", "other"):
        for path in (tmp_path / folder).rglob("*"):
            assert not path.is_file() or not any(secret.encode() in path.read_bytes() for secret in secrets), path


def test_each_command_is_signed_for_anew(aws: CodeCommit, tmp_path: Path) -> None:
    moments = iter(datetime.now(UTC) + timedelta(seconds=n) for n in range(100))
    told: list[str] = []
    login = CodeCommitLogin(lambda: KEYS, register=told.append, now=lambda: next(moments))
    client = GitClient(tmp_path / "cache", credentials=login)
    package(client, SHORT, client.resolve(Source(SHORT)).commit)
    signatures = {password for _, password in aws.seen}
    assert len(signatures) > 1
    assert {KEYS.secret_key, KEYS.token, *signatures} <= set(told)
    assert {KEYS.secret_key, KEYS.token, told[-1]} == set(login.secrets())


@pytest.mark.parametrize(
    "keys", [AwsKeys("AKIDEXAMPLE", "canary-wrong", KEYS.token), AwsKeys("AKIDEXAMPLE", KEYS.secret_key)]
)
def test_keys_that_are_not_let_in_are_told_what_to_allow_and_not_shown(
    aws: CodeCommit, monkeypatch: pytest.MonkeyPatch, keys: AwsKeys
) -> None:
    connect(monkeypatch, keys)
    source = read_source(SHORT, "main", None, None)
    with pytest.raises(AuthenticationFailed, match=r"AKIDEXAMPLE.*codecommit:GitPull") as error:
        git_client(source.credentials).resolve(source)
    assert aws.seen
    assert not any(
        secret in everything_said(error.value) for secret in (keys.secret_key, *(one for _, one in aws.seen))
    )


def test_an_old_signature_is_refused_by_the_server(aws: CodeCommit, tmp_path: Path) -> None:
    login = CodeCommitLogin(lambda: KEYS, now=lambda: datetime.now(UTC) - timedelta(minutes=16))
    with pytest.raises(AuthenticationFailed, match="clock"):
        GitClient(tmp_path / "cache", credentials=login).resolve(Source(SHORT))


def test_a_profile_in_the_url_signs_in_place_of_the_connection(
    aws: CodeCommit, repository: git_server.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(
        f"[profile team]\nregion = eu-west-1\naws_access_key_id = AKIDTEAM\naws_secret_access_key = {KEYS.secret_key}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    aws.keys = AwsKeys("AKIDTEAM", KEYS.secret_key)
    source = read_source("codecommit://team@models", "main", None, None)
    found = git_client(source.credentials).resolve(source)
    assert (found.repo, found.commit) == ("codecommit::eu-west-1://team@models", repository.sha("main"))


def test_a_user_name_and_a_password_win(aws: CodeCommit, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.static = ("me-at-1", "canary-pw")
    source = read_source(None, None, {"repo": SHORT, "username": "me-at-1", "password": "canary-pw"}, None)
    assert source.credentials == Credentials("me-at-1", "canary-pw")
    git_client(source.credentials).resolve(source)
    assert set(aws.seen) == {aws.static}


def test_without_any_aws_credentials_it_is_said(
    repository: git_server.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": {"region_name": "eu-west-1"}})
    )
    monkeypatch.setenv("AIRFLOW__SM_GIT__CACHE_DIR", str(tmp_path / "cache"))
    source = read_source(SHORT, "main", None, None)
    with pytest.raises(BadParameter, match=r"aws_conn_id='aws_default'.*no AWS credentials.*git_conn_id"):
        git_client(source.credentials).resolve(source)
