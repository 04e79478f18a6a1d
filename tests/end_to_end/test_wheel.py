"""The wheel, in an empty environment outside of the checkout, under the oldest and the newest Airflow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent.parent
CONSTRAINTS = CHECKOUT / "constraints"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, built from what is committed."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(folder / "source")], check=True)
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(folder / "source"),
    ]
    subprocess.run(build, check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("constraints", sorted(path.name for path in CONSTRAINTS.glob("*.txt")))
def test_an_installed_wheel_runs_the_quickstart(wheel: Path, constraints: str, tmp_path: Path) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    python = tmp_path / "environment" / "bin" / "python"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "AWS_", "PYTHON"))}
    environment = {**clean, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        str(python),
        "-c",
        str(CONSTRAINTS / constraints),
        str(wheel),
    ]
    subprocess.run(install, check=True, cwd=tmp_path)
    demo = [str(python.parent / "airflow-sm-git"), "demo"]
    done = subprocess.run(demo, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torn down   Endpoint quickstart-" in done.stdout
    version = "import airflow; print(airflow.__version__)"
    found = subprocess.run(
        [python, "-c", version], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    pinned = next(
        line for line in (CONSTRAINTS / constraints).read_text().splitlines() if line.startswith("apache-airflow==")
    )
    assert found.stdout.split()[-1] == pinned.partition("==")[2].split()[0]
