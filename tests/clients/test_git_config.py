"""``git_config`` as the SageMaker SDK takes it: for each cell of its table, what the server was sent and what was said.

The table is that of ``sagemaker/git_utils.py`` in SDK 2.x.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.errors import AuthenticationFailed, BadParameter, RemoteError
from airflow_sm_git.core.source import parse_source
from tests.clients.packaging import FILES
from tests.clients.test_git_login import everything_said
from tests.git_server import GitServer, Repository
from tests.https_server import proxy_to, serve_https

TOKEN, PASSWORD = "t0k/en+c4n@ry%3A-ü", "p4ss w0rd: c4n'ry\\"
CODECOMMIT = "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/models"
AS_TOKEN, AS_ADA = ("x-access-token", TOKEN), ("ada", PASSWORD)


def given(text: str) -> dict[str, Any]:
    """``token username password 2FA`` and the like, as the keys of a git_config."""
    values = {"token": TOKEN, "username": "ada", "password": PASSWORD}
    flags: dict[str, dict[str, Any]] = {
        "2FA": {"2FA_enabled": True},
        "2FA-text": {"2FA_enabled": "True"},
        "no-2FA": {"2FA_enabled": False},
    }
    chosen: dict[str, Any] = {}
    for word in text.split():
        chosen |= flags[word] if word in flags else {word: values[word]}
    return chosen


TOKEN_WINS = "{} ignored: the token is used."
TOKEN_ONLY = "{} ignored: with 2FA_enabled only a token counts."
HALF = "{} is ignored, as {} is not given: going on without either."
NO_TOKEN = "token is ignored: CodeCommit takes a user name and a password."
NO_2FA = "2FA_enabled is ignored: CodeCommit does not have it."
BOTH = "username and password are"

HTTPS_CELLS = [
    ("", None, ()),
    ("token", AS_TOKEN, ()),
    ("token username", AS_TOKEN, (TOKEN_WINS.format("username is"),)),
    ("token password", AS_TOKEN, (TOKEN_WINS.format("password is"),)),
    ("token username password", AS_TOKEN, (TOKEN_WINS.format(BOTH),)),
    ("username password", AS_ADA, ()),
    ("username", None, (HALF.format("username", "password"),)),
    ("password", None, (HALF.format("password", "username"),)),
    ("no-2FA", None, ()),
    ("no-2FA token", AS_TOKEN, ()),
    ("no-2FA token username password", AS_TOKEN, (TOKEN_WINS.format(BOTH),)),
    ("no-2FA username password", AS_ADA, ()),
    ("no-2FA username", None, (HALF.format("username", "password"),)),
    ("2FA", None, ()),
    ("2FA token", AS_TOKEN, ()),
    ("2FA token username password", AS_TOKEN, (TOKEN_WINS.format(BOTH),)),
    ("2FA username password", None, (TOKEN_ONLY.format(BOTH),)),
    ("2FA-text username password", None, (TOKEN_ONLY.format(BOTH),)),
    ("2FA username", None, (TOKEN_ONLY.format("username is"),)),
    ("2FA password", None, (TOKEN_ONLY.format("password is"),)),
]
CODECOMMIT_CELLS = [
    ("", None, ()),
    ("token", None, (NO_TOKEN,)),
    ("username password", AS_ADA, ()),
    ("token username password", AS_ADA, (NO_TOKEN,)),
    ("username", None, (HALF.format("username", "password"),)),
    ("password", None, (HALF.format("password", "username"),)),
    ("2FA username password", AS_ADA, (NO_2FA,)),
    ("2FA token", None, (NO_TOKEN, NO_2FA)),
    ("2FA token username", None, (NO_TOKEN, NO_2FA, HALF.format("username", "password"))),
]
SSH_CELLS = [
    ("", ()),
    ("2FA", ()),
    ("token", ("token is ignored: SSH uses a key.",)),
    ("username", ("username is ignored: SSH uses a key.",)),
    ("username password", (f"{BOTH} ignored: SSH uses a key.",)),
    ("2FA token username password", ("username, password and token are ignored: SSH uses a key.",)),
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The HOME of a worker whose git configuration is still empty."""
    made = tmp_path / "home"
    made.mkdir()
    monkeypatch.setenv("HOME", str(made))
    for name in [name for name in os.environ if name.startswith("GIT_SSL") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)  # they would win over the configuration
    return made


@pytest.fixture
def https(repository: Repository, tmp_path: Path, home: Path) -> Iterator[GitServer]:
    """A server that the worker trusts."""
    repository.commit(FILES)
    with serve_https(repository.path.parent, tmp_path) as (server, authority):
        (home / ".gitconfig").write_text(f"[http]\n\tsslCAInfo = {authority}\n")
        yield server


@pytest.fixture
def internet(https: GitServer, repository: Repository, home: Path) -> Iterator[GitServer]:
    """The same server, which answers for well-known hosts too, and has a repository where CodeCommit has them."""
    shelf = repository.path.parent / "v1" / "repos"
    shelf.mkdir(parents=True)
    (shelf / "models").symlink_to(repository.path)
    with proxy_to(https.port) as proxy, (home / ".gitconfig").open("a") as config:
        config.write(f"\tproxy = {proxy}\n")
        config.flush()
        yield https


def resolve(tmp_path: Path, url: str, chosen: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """What an operator does with a git_config: the commit, and what it warns of."""
    source = parse_source(None, None, {"repo": url, "branch": "main"} | chosen)
    client = GitClient(tmp_path / "cache", credentials=source.credentials, timeout=60)
    return client.resolve(source).commit, source.notes


def basic(login: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()


def check_cell(
    server: GitServer, tmp_path: Path, url: str, chosen: dict[str, Any], login: tuple[str, str] | None
) -> tuple[str, ...]:
    """Ask with the right secret, and again of a server that takes another; what was warned of."""
    server.login = login
    _, notes = resolve(tmp_path, url, chosen)
    sent = server.authorizations - {None}
    assert sent == ({basic(login)} if login else set())
    server.requests.clear()
    server.login = ("ada", "something else")
    with pytest.raises(AuthenticationFailed) as refused:
        resolve(tmp_path, url, chosen)
    assert server.authorizations - {None} == sent
    shown = everything_said(refused.value) + json.dumps(notes)
    for secret in (TOKEN, PASSWORD, base64.b64encode(TOKEN.encode()).decode(), "c4n"):
        assert secret not in shown
    return notes


@pytest.mark.parametrize(("keys", "login", "notes"), HTTPS_CELLS, ids=[cell[0] or "nothing" for cell in HTTPS_CELLS])
def test_over_https(
    https: GitServer, tmp_path: Path, keys: str, login: tuple[str, str] | None, notes: tuple[str, ...]
) -> None:
    assert check_cell(https, tmp_path, https.url("models.git"), given(keys), login) == notes


@pytest.mark.parametrize(
    ("keys", "login", "notes"), CODECOMMIT_CELLS, ids=[cell[0] or "nothing" for cell in CODECOMMIT_CELLS]
)
def test_over_https_to_codecommit(
    internet: GitServer, tmp_path: Path, keys: str, login: tuple[str, str] | None, notes: tuple[str, ...]
) -> None:
    assert check_cell(internet, tmp_path, CODECOMMIT, given(keys), login) == notes


@pytest.mark.parametrize("url", ["ssh://git@127.0.0.1:{port}/models.git", "ssh://127.0.0.1:{port}/models.git"])
@pytest.mark.parametrize(("keys", "notes"), SSH_CELLS, ids=[cell[0] or "nothing" for cell in SSH_CELLS])
def test_over_ssh_nothing_is_sent(tmp_path: Path, home: Path, url: str, keys: str, notes: tuple[str, ...]) -> None:
    listener, heard = socket.create_server(("127.0.0.1", 0)), bytearray()

    def hear() -> None:
        connection, _ = listener.accept()
        with connection:
            heard.extend(connection.recv(65536))

    thread = threading.Thread(target=hear)
    thread.start()
    chosen = given(keys)
    with listener, pytest.raises(RemoteError) as error:
        resolve(tmp_path, url.format(port=listener.getsockname()[1]), chosen)
    thread.join(30)
    assert heard.startswith(b"SSH-2.0-") and len(heard.splitlines()) == 1
    assert "c4n" not in everything_said(error.value)
    source = parse_source(None, None, {"repo": "git@example.com:models.git"} | chosen)
    assert (source.credentials, source.notes) == (None, notes)


@pytest.mark.parametrize(
    ("host", "user"),
    [("github.com", "x-access-token"), ("gitlab.com", "oauth2"), ("bitbucket.org", "x-token-auth")],
)
def test_a_token_goes_with_the_user_name_that_its_host_expects(
    internet: GitServer, tmp_path: Path, host: str, user: str
) -> None:
    internet.login = (user, TOKEN)
    resolve(tmp_path, f"https://{host}/models.git", given("token"))
    assert internet.authorizations == {None, basic((user, TOKEN))}


@pytest.mark.parametrize("keys", ["", "username", "2FA username password"])
def test_where_nothing_counts_the_machines_own_helper_answers(
    https: GitServer, tmp_path: Path, home: Path, keys: str
) -> None:
    https.login = ("machine", "its own")
    helper = home / "helper"
    helper.write_text('#!/bin/sh\necho "$1" >> "$HOME/asked"\ntest "$1" = get && echo username=machine && ')
    with helper.open("a") as script:
        script.write('echo "password=its own"\n')
    helper.chmod(0o755)
    with (home / ".gitconfig").open("a") as config:
        config.write(f"[credential]\n\thelper = {helper}\n")
    resolve(tmp_path, https.url("models.git"), given(keys))
    assert https.authorizations == {None, basic(("machine", "its own"))}
    assert set((home / "asked").read_text().split()) <= {"get", "store"}


def test_credentials_that_count_keep_the_machines_helper_out(https: GitServer, tmp_path: Path, home: Path) -> None:
    https.login = AS_TOKEN
    with (home / ".gitconfig").open("a") as config:
        config.write(f"[credential]\n\thelper = !touch {home}/asked #\n")
    resolve(tmp_path, https.url("models.git"), given("token"))
    assert not (home / "asked").exists()


@pytest.mark.parametrize(("key", "near"), [("brnach", "branch"), ("2FA_enable", "2FA_enabled"), ("user", "username")])
def test_an_unknown_key_is_refused_with_the_nearest_known(key: str, near: str) -> None:
    with pytest.raises(BadParameter, match=f"'{key}': unknown key. Did you mean '{near}'"):
        parse_source(None, None, {"repo": CODECOMMIT, key: "main"})


@pytest.mark.parametrize("key", ["username", "password", "token"])
def test_a_line_end_in_a_login_is_refused_because_git_would_take_it_for_another_answer(key: str) -> None:
    chosen = {"username": "ada", "password": PASSWORD} if key != "token" else {}
    chosen[key] = "canary\nhost=elsewhere.example.com"
    with pytest.raises(BadParameter, match=f"{key}=.*control character") as error:
        parse_source(None, None, {"repo": "https://example.com/models.git"} | chosen)
    assert "canary" not in everything_said(error.value)
