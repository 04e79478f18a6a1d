"""A secret is given in every way, everything goes well or wrong in every way, and the secret is looked for everywhere.

The SageMaker SDK's way of cloning is put under the same search, which so is known to find.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.git_server import GitServer, Repository, serve
from tests.peer_environments import CHECKOUT, peer_python
from tests.sdk.peer import REQUIREMENTS
from tests.secret_search import Trace, find, find_in_files, forms, traced
from tests.tunnel import certificate

# Every form looks different for it: it has what percent-encoding, base64 for URLs, JSON and shells change.
CANARY = "c4n/ary+s3cr@t%2F'x y?>~ÿ"
USER = "ada@example.com"
FILES = {"src/train.py": b"print('train')\n", "src/more/data.txt": b"data\n"}
OUTCOMES = {
    "success": [],
    "wrong-secret": ["AuthenticationFailed"],
    "unreachable": ["RemoteError"],
    "stalled": ["RemoteError"],
    "broken": ["RemoteError"],
    "no-such-ref": ["RefNotFound"],
    "no-such-path": ["PathNotFound"],
    "unsafe-tree": ["UnsafeTree"],
}
WAYS = ("config-token", "config-password", "connection-token", "connection-password", "connection-bearer")


@dataclass
class Searched:
    """What one run of everything left.

    :param world: the folder with Airflow's home, the cache, and the temporary folder.
    """

    results: dict[str, Any]
    said: str
    trace: Trace
    world: Path


def base_environment(world: Path, **more: str) -> dict[str, str]:
    """The variables of a program whose files all lie below ``world``."""
    for name in ("home", "tmp"):
        (world / name).mkdir(parents=True, exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(world / "home"), "TMPDIR": str(world / "tmp")}
    return environment | {"PYTHONDONTWRITEBYTECODE": "1"} | more


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = Repository(tmp_path_factory.mktemp("served") / "models.git")
    made.commit(FILES)
    made.commit(FILES, branch="unsafe", links={"src/link": "../../../etc/passwd"})
    return made


@pytest.fixture(scope="module")
def servers(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, GitServer]]:
    """By way and outcome; and the file of their certificate."""
    folder = tmp_path_factory.mktemp("certificate")
    tls, _ = certificate(folder)
    with ExitStack() as stack:
        running = {}
        for kind in ("token", "password", "bearer"):
            for outcome in ("success", "wrong-secret", "stalled", "broken"):
                server = stack.enter_context(serve(repository.path.parent, tls=tls))
                secret = CANARY if outcome != "wrong-secret" else "another"
                server.bearer = secret if kind == "bearer" else None
                server.login = {"token": ("x-access-token", secret), "password": (USER, secret)}.get(kind)
                server.broken = outcome == "broken"
                server.stalled = threading.Event() if outcome == "stalled" else None
                running[f"{kind} {outcome}"] = server
        yield running


def run_of(way: str, outcome: str, servers: Mapping[str, GitServer]) -> dict[str, Any]:
    """One run for the program."""
    where, _, kind = way.partition("-")
    server = servers.get(f"{kind} {outcome}", servers[f"{kind} success"])
    url = "https://127.0.0.1:1/models.git" if outcome == "unreachable" else server.url("models.git")
    branch = {"no-such-ref": "nowhere", "unsafe-tree": "unsafe"}.get(outcome, "main")
    login: dict[str, str] = {"username": USER, "password": CANARY} if kind == "password" else {"token": CANARY}
    package = {"entry_point": "train.py", "source_dir": "nowhere" if outcome == "no-such-path" else "src"}
    env = {"AIRFLOW__SM_GIT__GIT_TIMEOUT": "2" if outcome == "stalled" else "120"}
    if where == "config":
        arguments: dict[str, Any] = {"git_config": {"repo": url, **login}}
        checkout = {"git_config": {"repo": url, "branch": branch, **login}}
    else:
        name = f"{kind}_{outcome}".replace("-", "_")
        arguments, checkout = {"git_conn_id": name}, {"git_conn_id": name, "ref": branch}
        extra = {"auth_scheme": "bearer"} if kind == "bearer" else {}
        connection = {"conn_type": "git", "host": url, "password": CANARY, "extra": extra}
        env[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(connection | {"login": login.get("username")})
    return {"name": f"{way}_{outcome}", "checkout": checkout, "package": package | arguments, "env": env}


@pytest.fixture(scope="module")
def searched(
    servers: dict[str, GitServer], local_sagemaker: LocalSageMaker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Searched]:
    """Every way with every outcome, run once under strace."""
    world = tmp_path_factory.mktemp("canary")
    environment = base_environment(
        world,
        PYTHONPATH=str(CHECKOUT),
        GIT_SSL_CAINFO=str(next(tmp_path_factory.getbasetemp().glob("certificate*/certificate.pem"))),
        AIRFLOW_HOME=str(world / "airflow"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__SM_GIT__CACHE_DIR=str(world / "cache"),
        AIRFLOW_CONN_AWS_DEFAULT=local_sagemaker.env["AIRFLOW_CONN_AWS_DEFAULT"],
    )
    runs = [run_of(way, outcome, servers) for way in WAYS for outcome in OUTCOMES]
    log = tmp_path_factory.mktemp("trace") / "strace.log"
    command = [sys.executable, "-m", "tests.end_to_end.canary_program"]
    done, trace = traced(command, log=log, env=environment, cwd=world, stdin=json.dumps(runs), timeout=500)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, said[-8000:]
    yield Searched(json.loads(done.stdout), said, trace, world)
    log.unlink()
    shutil.rmtree(world, ignore_errors=True)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_way_and_outcome_came_about_and_the_servers_were_shown_the_secret(
    searched: Searched, servers: dict[str, GitServer]
) -> None:
    found = {name: result["errors"] for name, result in searched.results.items()}
    assert found == {f"{way}_{outcome}": errors for way in WAYS for outcome, errors in OUTCOMES.items()}
    for name, server in servers.items():
        assert any(server.authorizations - {None}), f"{name} was sent nothing: the search is about nothing"


def test_the_secret_is_in_no_argument_of_any_program(searched: Searched) -> None:
    programs = searched.trace.programs()
    assert sum(b"git-remote-https" in program or b"remote-https" in program for program in programs) > len(OUTCOMES)
    assert [program for program in programs if find(CANARY, program)] == []


def test_the_secret_is_in_no_file_not_even_for_a_moment(searched: Searched) -> None:
    written = list(searched.trace.written())
    assert any(path.startswith(str(searched.world / "cache")) for path, _ in written)
    assert any(path.startswith(str(searched.world / "tmp")) for path, _ in written)
    assert [path for path, data in written if find(CANARY, data)] == []
    assert find_in_files(CANARY, searched.world) == []


def test_the_secret_is_in_nothing_that_airflow_shows_or_stores(searched: Searched) -> None:
    assert find(CANARY, searched.said) == []
    shown = {(name, place): text for name, run in searched.results.items() for place, text in run["shown"].items()}
    assert {place for place, text in shown.items() if find(CANARY, text)} == set()
    assert all(shown[f"{way}_success", "log"] and shown[f"{way}_broken", "exceptions"] for way in WAYS)


def test_the_secret_is_in_no_archive_and_no_manifest(searched: Searched, local_sagemaker: LocalSageMaker) -> None:
    s3 = local_sagemaker.client("s3")
    for way in WAYS:
        package = searched.results[f"{way}_success"]["package"]
        for uri in {value for name, value in package.items() if name.endswith("_uri")}:
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            answer = s3.get_object(Bucket=bucket, Key=key)
            body = answer["Body"].read()
            plain = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
            assert b"train" in plain
            assert find(CANARY, plain + json.dumps(answer["Metadata"]).encode()) == []


CLONE = """
import json, sys
from sagemaker.git_utils import git_clone_repo
git_clone_repo(json.load(sys.stdin), "train.py", "src")
"""


@pytest.mark.parametrize(
    ("given", "secret", "form"),
    [
        ({"username": "ada", "password": CANARY}, CANARY, "quote all"),
        ({"token": "c4n4ry-token-in-clear"}, "c4n4ry-token-in-clear", "plain"),
    ],
)
def test_the_search_finds_the_secret_where_the_sdk_puts_it(
    repository: Repository, tmp_path: Path, given: dict[str, str], secret: str, form: str
) -> None:
    tls, authority = certificate(tmp_path)
    world = tmp_path / "world"
    with serve(repository.path.parent, tls=tls, login=("ada", CANARY) if "password" in given else None) as server:
        config = {"repo": server.url("models.git"), **given}
        done, trace = traced(
            [str(peer_python("sagemaker-sdk", REQUIREMENTS)), "-c", CLONE],
            log=tmp_path / "strace.log",
            env=base_environment(world, GIT_SSL_CAINFO=str(authority), SAGEMAKER_SUPPRESS_V2_WARNING="1"),
            cwd=world,
            stdin=json.dumps(config),
            timeout=300,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    assert form in {name for program in trace.programs() for name in find(secret, program)}
    assert any(path.endswith(".git/config.lock") and find(secret, data) for path, data in trace.written())
    assert any(f".git/config: {form}" in place for place in find_in_files(secret, world / "tmp"))


def test_the_search_knows_every_form_of_a_secret() -> None:

    for before in ("", "a", "ab", "x-access-token:", "ada:"):
        for after in ("", "z", "zz"):
            data = (before + CANARY + after).encode()
            for encoded in (
                base64.b64encode(data),
                base64.urlsafe_b64encode(data),
                base64.b64encode(data).rstrip(b"="),
            ):
                assert any(name.startswith("base64") for name in find(CANARY, b"Authorization: " + encoded))
    for text in (CANARY, quote(CANARY), quote(CANARY, safe=""), quote_plus(CANARY)):
        assert find(CANARY, f"https://{text}@host")
    assert find(CANARY, json.dumps({"harmless": CANARY[:-2]})) == []
    assert min(map(len, forms(CANARY).values())) >= len(CANARY)
