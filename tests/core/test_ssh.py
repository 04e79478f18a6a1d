"""What is read as a key, and what is said of everything else."""

from __future__ import annotations

import pytest

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.ssh import SshAccess, key_lines, read_ssh

BODY = ["b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW", "QyNTUxOQAAACB5canary"]
KEY = "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *BODY, "-----END OPENSSH PRIVATE KEY-----", ""])


@pytest.mark.parametrize(
    "text",
    [KEY, KEY.strip(), f"\n{KEY}\n\n", KEY.replace("\n", "\r\n"), KEY.replace("\n", "\\n"), KEY.replace("\n", "  \n")],
)
def test_a_key_is_read_however_its_lines_were_pasted(text: str) -> None:
    assert SshAccess(private_key=text).private_key == KEY


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIcanary me@host", "public key", "without '.pub'"),
        ("-----BEGIN PUBLIC KEY-----\ncanary\n-----END PUBLIC KEY-----", "public key", "without '.pub'"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\ncanary", "PuTTY", "OpenSSH format"),
        ("canary", "not the text of a private key", "whole text"),
        (KEY.replace("-----END OPENSSH PRIVATE KEY-----", ""), "not the text of a private key", "whole text"),
        (KEY.replace("\n", " "), "lost its line ends", r"as \\n in JSON"),
        (f"/home/me/{'canary'}", "not the text of a private key", "whole text"),
    ],
)
def test_what_is_no_private_key_is_refused_and_not_shown(text: str, problem: str, remedy: str) -> None:
    with pytest.raises(BadParameter, match=rf"private_key='\*\*\*'.*{problem}.*{remedy}") as error:
        SshAccess(private_key=text)
    assert "canary" not in str(error.value)
    assert "canary" not in repr(error.value.args)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"private_key": KEY, "key_file": "/k"}, "key_file='/k': given together with private_key"),
        ({"private_key_passphrase": "canary"}, r"private_key_passphrase='\*\*\*'.*without a key"),
        ({"private_key": KEY, "private_key_passphrase": "canary\n"}, r"private_key_passphrase='\*\*\*'.*line end"),
        ({"strict_host_key_checking": "maybe"}, "strict_host_key_checking='maybe'.*yes, no, accept-new"),
        ({"ssh_port": "http"}, "ssh_port='http': is not a number"),
        ({"ssh_port": 70000}, "ssh_port=70000.*1 to 65535"),
        ({"ssh_port": "0"}, "ssh_port=0"),
        ({"connect_timeout": 0}, "connect_timeout=0"),
        ({"known_hosts": "canary\ncanary\ncanary"}, r"known_hosts='\*\*\*'.*ssh-keyscan"),
        ({"private_key": ["canary"]}, r"private_key='\*\*\*': must be a string"),
    ],
)
def test_values_that_cannot_work_are_refused_by_their_fields_name(extra: dict[str, object], said: str) -> None:
    with pytest.raises(BadParameter, match=said) as error:
        read_ssh(extra)
    assert "canary" not in str(error.value)


def test_every_field_is_read_under_its_name_in_the_git_provider() -> None:
    extra = {
        "private_key": KEY,
        "private_key_passphrase": "secret phrase",
        "known_hosts": "example.com ssh-ed25519 AAAA\\nother.example.com ssh-rsa BBBB",
        "known_hosts_file": "/etc/hosts.known",
        "strict_host_key_checking": "accept-new",
        "host_proxy_cmd": "nc -x proxy %h %p",
        "ssh_port": "2222",
        "ssh_config_file": "/etc/ssh/mine",
        "connect_timeout": 7,
    }
    assert read_ssh(extra, "me") == SshAccess(
        private_key=KEY,
        passphrase="secret phrase",
        known_hosts="example.com ssh-ed25519 AAAA\nother.example.com ssh-rsa BBBB\n",
        known_hosts_file="/etc/hosts.known",
        strict_host_key_checking="accept-new",
        proxy_command="nc -x proxy %h %p",
        port=2222,
        config_file="/etc/ssh/mine",
        connect_timeout=7,
        user="me",
    )
    assert read_ssh({"key_file": "/k"}).key_file == "/k"
    assert read_ssh({"key_file": "", "ssh_port": None}) == SshAccess()


@pytest.mark.parametrize(
    ("value", "checking"),
    [("off", "no"), ("ask", "yes"), (True, "yes"), (False, "no"), ("Accept-New", "accept-new"), ("", "accept-new")],
)
def test_strictness_is_understood_in_the_git_providers_words(value: object, checking: str) -> None:
    assert read_ssh({"strict_host_key_checking": value}).checking == checking


def test_hosts_are_checked_strictly_as_soon_as_known_ones_are_given() -> None:
    assert SshAccess().checking == "accept-new"
    assert SshAccess(known_hosts="h ssh-rsa AAAA").checking == SshAccess(known_hosts_file="/k").checking == "yes"
    assert SshAccess(known_hosts_file="/k", strict_host_key_checking="accept-new").checking == "accept-new"


def test_each_line_of_a_key_and_the_passphrase_are_secret_and_not_in_the_repr() -> None:
    ssh = SshAccess(private_key=KEY, passphrase="secret phrase")
    assert ssh.secrets() == ("secret phrase", *BODY)
    assert not any(secret in repr(ssh) for secret in ssh.secrets())
    assert key_lines("-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\n\n" + BODY[0]) == (BODY[0],)
