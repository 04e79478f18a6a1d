"""The environment is made when it is not right, and only then."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.set_up import DECIDES, ROOT, set_up, stamp

MARK = ".venv/set-up-stamp"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of a small project with the same extras and no dependencies."""
    pins = (ROOT / "constraints" / "newest.txt").read_text()
    texts = {
        "setup.cfg": "[metadata]\nname = small\nversion = 1\n[options]\npy_modules = small\n",
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
        "constraints/newest.txt": pins,
        "scripts/set_up.py": "",
        "small.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def has_small(checkout: Path) -> bool:
    """Whether the environment can import the project, away from the checkout."""
    return subprocess.run([checkout / ".venv/bin/python", "-I", "-c", "import small"], cwd="/").returncode == 0


@pytest.mark.parametrize("name", DECIDES)
def test_the_stamp_changes_with_every_file_that_decides(checkout: Path, name: str) -> None:
    before = stamp(checkout)
    (checkout / name).write_text((checkout / name).read_text() + "\n# changed\n")
    assert stamp(checkout)[0] == before[0]
    assert stamp(checkout)[1] != before[1]


def pretend(checkout: Path, python: str, lines: tuple[str, str]) -> None:
    """Put down an environment whose Python is a shell script, with the stamp's two lines."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").write_text(python)
    (checkout / ".venv" / "bin" / "python").chmod(0o755)
    (checkout / MARK).write_text("\n".join(lines) + "\n")


def test_a_right_environment_is_left_alone(checkout: Path) -> None:
    pretend(checkout, "#!/bin/sh\nexit 3\n", stamp(checkout))
    assert set_up(checkout) is False


def test_a_failed_installation_leaves_no_stamp(checkout: Path) -> None:
    pretend(checkout, "#!/bin/sh\nexit 3\n", (stamp(checkout)[0], "of yesterday"))
    with pytest.raises(subprocess.CalledProcessError):
        set_up(checkout)
    assert not (checkout / MARK).exists()


@pytest.mark.slow
def test_it_is_made_then_brought_up_to_date_then_made_anew_when_half_made(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PIP_TARGET"):
        monkeypatch.setenv(name, str(checkout / "stray"))
    made = checkout / ".venv" / "made-by-hand"

    assert set_up(checkout) is True
    monkeypatch.delenv("PYTHONHOME")  # has_small() starts that environment's Python itself
    assert has_small(checkout)
    assert set_up(checkout) is False
    made.touch()

    (checkout / "pyproject.toml").write_text((checkout / "pyproject.toml").read_text() + "\n")
    assert set_up(checkout) is True
    assert made.exists()

    (checkout / MARK).unlink()
    assert set_up(checkout) is True
    assert not made.exists()
    assert has_small(checkout)
    assert not (checkout / "stray").exists()
