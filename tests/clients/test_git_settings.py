"""Settings that make git run a program or go elsewhere: each is first shown to act on plain git, then not here.

They lie in the configuration of the worker's user, in that of a mirror that somebody else has written to, or in the
worker's environment; some act together with what is in the tree of the repository.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.credentials import Credentials
from airflow_sm_git.core.errors import RemoteError
from tests.clients.packaging import in_another_process, package
from tests.git_server import GitServer, Repository, serve
from tests.git_server import git as quiet_git

FILES = {"src/train.py": b"print('train')\n", ".gitattributes": b"*.py filter=evil diff=evil merge=evil\n"}


@dataclass
class Scene:
    """What a vector can use.

    :param trap: a program that leaves ``witness`` behind.
    :param url: the repository, over HTTP, where a login is asked for.
    :param clone: somebody's own clone of it.
    """

    home: Path
    trap: Path
    witness: Path
    url: str
    clone: Path

    def plain(self, *arguments: str, **variables: str) -> None:
        """Run git as the worker's user would."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "GIT_TERMINAL_PROMPT": "0"} | variables
        subprocess.run(["git", *arguments], env=environment, capture_output=True, check=False, stdin=subprocess.DEVNULL)


@dataclass
class Vector:
    """One way to make git act.

    :param key, value: of the configuration; ``{trap}`` stands for the trap.
    :param plainly: what to ask plain git for, to see that it acts.
    :param url: what to ask our client for; the repository, unless it says otherwise.
    """

    key: str
    value: str
    plainly: Callable[[Scene], tuple[str, ...]]
    url: str = ""


def clone(scene: Scene) -> tuple[str, ...]:
    return "clone", "-q", f"file://{scene.clone}", str(scene.home / "copy")


def status(scene: Scene) -> tuple[str, ...]:
    return "-C", str(scene.clone), "status"


def ask(scene: Scene) -> tuple[str, ...]:
    return "ls-remote", scene.url


SSH, GIT = "ssh://git@127.0.0.1:1/models.git", "git://127.0.0.1:1/models.git"
VECTORS = {
    "hooks": Vector("core.hooksPath", "{home}/hooks", clone),
    "template": Vector("init.templateDir", "{home}/template", clone),
    "filter": Vector("filter.evil.smudge", "{trap}", clone),
    "long filter": Vector("filter.evil.process", "{trap}", clone),
    "fsmonitor": Vector("core.fsmonitor", "{trap}", status),
    "ssh": Vector("core.sshCommand", "{trap}", lambda _: ("ls-remote", SSH), SSH),
    "proxy of git://": Vector("core.gitProxy", "{trap}", lambda _: ("ls-remote", GIT), GIT),
    "insteadOf": Vector("url.ext::{trap} x.insteadOf", "{url}", lambda s: ("-c", "protocol.allow=always", *ask(s))),
    "askpass": Vector("core.askPass", "{trap}", ask),
    "upload-pack": Vector("uploadpack.packObjectsHook", "{trap}", clone),
}


@pytest.fixture
def served(repository: Repository, server: GitServer) -> str:
    """A repository that asks for a login; its commit."""
    server.login = ("ada", "secret")
    return repository.commit(FILES)


@pytest.fixture
def scene(repository: Repository, server: GitServer, served: str, tmp_path: Path) -> Scene:
    home = tmp_path / "home"
    home.mkdir()
    witness, trap = tmp_path / "witness", tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {witness}\n")
    for place in ("hooks", "template/hooks"):
        (home / place).mkdir(parents=True)
        for name in ("post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc"):
            (home / place / name).write_text(trap.read_text())
            (home / place / name).chmod(0o700)
    trap.chmod(0o700)
    quiet_git("clone", "-q", repository.path, tmp_path / "clone")
    return Scene(home, trap, witness, server.url("models.git"), tmp_path / "clone")


def packaged(tmp_path: Path, url: str, commit: str) -> bool:
    """Whether our client can package a commit, in this process's environment."""
    client = GitClient(tmp_path / "cache", allowed_schemes={"http", "git"}, timeout=60)
    try:
        return package(client, url, commit)[0].file_count == 1
    except RemoteError:
        return False


def filled(text: str, scene: Scene) -> str:
    return text.format(trap=scene.trap, home=scene.home, url=scene.url)


@pytest.mark.parametrize("name", VECTORS)
def test_the_workers_configuration_does_not_act(
    scene: Scene, server: GitServer, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    vector = VECTORS[name]
    scene.plain("config", "--global", filled(vector.key, scene), filled(vector.value, scene))
    scene.plain(*vector.plainly(scene))
    assert scene.witness.exists(), "plain git does not act on it: the test is about nothing"
    scene.witness.unlink()
    monkeypatch.setenv("HOME", str(scene.home))
    server.login = ("ada", "secret") if name == "askpass" else None
    assert packaged(tmp_path, vector.url or scene.url, served) == (not vector.url and name != "askpass")
    assert not scene.witness.exists()


def test_the_configuration_of_a_mirror_does_not_act(
    scene: Scene, repository: Repository, served: str, tmp_path: Path
) -> None:
    with serve(repository.path.parent) as server:
        url = server.url("models.git")
        digest, said = in_another_process(tmp_path / "cache", url, served)
        assert len(digest) == 64, said
        configs = list((tmp_path / "cache").glob("mirrors/*/*/config"))
        assert configs
        settings = [(vector.key, vector.value) for vector in VECTORS.values()]
        for config in configs:
            for key, value in [*settings, ("credential.helper", "{trap}")]:
                scene.plain("config", "--file", str(config), filled(key, scene), filled(value, scene))
            assert config.read_text().count(str(scene.trap)) >= len(VECTORS) - 2
        newer = repository.commit({"src/more.py": b""})
        out, said = in_another_process(tmp_path / "cache", url, newer)
        assert len(out) == 64, said
        server.login = ("ada", "secret")
        again = repository.commit({"src/more.py": b"again"})
        _, said = in_another_process(tmp_path / "cache", url, again)
        assert said.startswith("AuthenticationFailed")
    assert not scene.witness.exists()


def test_a_helper_in_a_repositorys_configuration_acts_on_plain_git(scene: Scene) -> None:
    scene.plain("-C", str(scene.clone), "config", "credential.helper", str(scene.trap))
    scene.plain("-C", str(scene.clone), "ls-remote", scene.url)
    assert scene.witness.exists()


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("GIT_ASKPASS", ""),
        ("SSH_ASKPASS", ""),
        ("GIT_SSH", SSH),
        ("GIT_SSH_COMMAND", SSH),
        ("GIT_PROXY_COMMAND", GIT),
    ],
)
def test_the_workers_environment_does_not_act(
    scene: Scene, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    scene.plain("ls-remote", url or scene.url, **{variable: str(scene.trap)})
    assert scene.witness.exists(), "plain git does not act on it: the test is about nothing"
    scene.witness.unlink()
    monkeypatch.setenv("HOME", str(scene.home))
    monkeypatch.setenv(variable, str(scene.trap))
    assert not packaged(tmp_path, url or scene.url, served)
    assert not scene.witness.exists()


def test_the_workers_wish_to_trace_does_not_write_a_login_down(
    scene: Scene, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = {"GIT_TRACE_CURL": str(tmp_path / "trace"), "GIT_TRACE_REDACT": "0"}
    header = "http.extraHeader=Authorization: Bearer " + "secret"
    scene.plain("-c", header, "ls-remote", scene.url, **traces)
    assert "Bearer secret" in (tmp_path / "trace").read_text(), "plain git does not write it: the test is about nothing"
    (tmp_path / "trace").unlink()
    for name, value in traces.items():
        monkeypatch.setenv(name, value)
    client = GitClient(tmp_path / "cache", allowed_schemes={"http"}, credentials=Credentials("ada", "secret"))
    assert package(client, scene.url, served)
    assert not (tmp_path / "trace").exists()
