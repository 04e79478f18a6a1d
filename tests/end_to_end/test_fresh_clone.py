"""The README's first command on a machine that has nothing of ours."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import psutil
import pytest

CHECKOUT = Path(__file__).resolve().parent.parent.parent
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_make_demo_in_a_fresh_clone_with_a_fresh_home_prints_text_and_leaves_no_endpoint(tmp_path: Path) -> None:
    clone, home = tmp_path / "clone", tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(clone)], check=True)
    environment = {key: os.environ[key] for key in ("PATH", *CERTIFICATES) if key in os.environ} | {"HOME": str(home)}
    done = subprocess.run(["make", "demo"], cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = done.stdout.partition("answered:")[2].partition("torn down")[0]
    assert len(answer.split()) > 50, "about a hundred words are generated"
    [endpoint] = re.findall(r"endpoint +(\S+) answered", done.stdout)
    assert f"Endpoint {endpoint}," in done.stdout.partition("torn down")[2]
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    left = [command for command in commands if str(home) in command]
    assert left == []
    # Tools of the machine may leave folders of their own in a new home.
    assert [path.name for path in home.iterdir() if "airflow" in path.name] == [".airflow-sm-git"]
