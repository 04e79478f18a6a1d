"""Requirements beside the server's environment: built once, complete or not at all."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from airflow_sm_git.local import overlay
from tests.local.jobs import wheel


def code(folder: Path, requirements: str, **wheels: str) -> Path:
    folder.mkdir()
    for name, source in wheels.items():
        wheel(folder, name, source)
    (folder / "requirements.txt").write_text(requirements)
    return folder


def test_nothing_is_installed_where_nothing_is_asked_for(tmp_path: Path) -> None:
    assert overlay.ensure(tmp_path, tmp_path / "overlays", print) is None
    assert not (tmp_path / "overlays").exists()


def test_nothing_is_installed_where_all_is_there_already(tmp_path: Path) -> None:
    place = code(tmp_path / "code", "# ours\npackaging>=20  # plain\n\nnumpy\nabsent; python_version < '3'\n")
    assert overlay.ensure(place, tmp_path / "overlays", print) is None


@pytest.mark.parametrize(
    ("line", "met"),
    [
        ("packaging", True),
        ("packaging>=20,<1000", True),
        ("packaging<1", False),
        ("no-such-distribution", False),
        ("absent; sys_platform == 'nowhere'", True),
        ("packaging[extra]", False),
        ("packaging @ https://example.org/packaging.whl", False),
        ("-r other.txt", False),
        ("./packaging.whl", False),
    ],
)
def test_a_line_is_met_by_what_the_interpreter_has(line: str, met: bool) -> None:
    assert overlay.satisfied(line) is met


def test_an_overlay_is_built_once_and_used_again(tmp_path: Path) -> None:
    place = code(tmp_path / "code", "./aa-1.0-py3-none-any.whl", aa="x = 1")
    lines: list[str] = []
    first = overlay.ensure(place, tmp_path / "overlays", lines.append)
    assert first
    assert (first / "aa.py").read_text() == "x = 1"
    assert any("Installing dependencies" in line for line in lines)
    lines.clear()
    assert overlay.ensure(place, tmp_path / "overlays", lines.append) == first
    assert len(lines) == 1


def test_another_file_of_the_same_name_is_another_overlay(tmp_path: Path) -> None:
    one = code(tmp_path / "one", "./aa-1.0-py3-none-any.whl", aa="x = 1")
    two = code(tmp_path / "two", "./aa-1.0-py3-none-any.whl", aa="x = 2")
    first, second = (overlay.ensure(place, tmp_path / "overlays", print) for place in (one, two))
    assert first
    assert second
    assert first != second
    assert (second / "aa.py").read_text() == "x = 2"


def test_a_failed_installation_leaves_nothing_and_tells_the_installers_words(tmp_path: Path) -> None:
    place = code(tmp_path / "code", "./aa-1.0-py3-none-any.whl\n./missing-1.0-py3-none-any.whl", aa="x = 1")
    with pytest.raises(overlay.OverlayError, match="missing") as error:
        overlay.ensure(place, tmp_path / "overlays", print)
    assert error.value.code != 0
    assert [path.suffix for path in (tmp_path / "overlays").iterdir()] == [".lock"]


def test_a_build_that_was_cut_off_is_begun_anew(tmp_path: Path) -> None:
    place = code(tmp_path / "code", "./aa-1.0-py3-none-any.whl", aa="x = 1")
    built = overlay.ensure(place, tmp_path / "overlays", print)
    assert built
    built.rename(built.with_name(f".{built.name}"))
    (built.with_name(f".{built.name}") / "aa.py").write_text("half")
    again = overlay.ensure(place, tmp_path / "overlays", print)
    assert again == built
    assert (again / "aa.py").read_text() == "x = 1"


def test_writing_into_an_overlay_does_not_reach_the_installers_cache(tmp_path: Path) -> None:
    place = code(tmp_path / "code", "./aa-1.0-py3-none-any.whl", aa="x = 1")
    for overlays in (tmp_path / "one", tmp_path / "two"):
        built = overlay.ensure(place, overlays, print)
        assert built
        assert (built / "aa.py").read_text() == "x = 1"
        (built / "aa.py").write_text("spoilt")


def test_of_several_at_once_one_builds(tmp_path: Path) -> None:
    place = code(tmp_path / "code", "./aa-1.0-py3-none-any.whl", aa="x = 1")
    lines: list[str] = []
    found: list[Path | None] = []
    threads = [
        threading.Thread(target=lambda: found.append(overlay.ensure(place, tmp_path / "overlays", lines.append)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 3
    assert len(set(found)) == 1
    assert sum("Installing dependencies" in line for line in lines) == 1


@pytest.mark.slow  # builds with setuptools, which comes from the package index
def test_a_package_is_installed_with_its_requirements(tmp_path: Path) -> None:
    place = code(tmp_path / "code", "./aa-1.0-py3-none-any.whl", aa="x = 1")
    (place / "setup.py").write_text("from setuptools import setup\nsetup(name='own', py_modules=['own'])\n")
    (place / "own.py").write_text("y = 2")
    built = overlay.ensure_package(place, tmp_path / "overlays", print)
    assert (built / "own.py").read_text() == "y = 2"
    assert (built / "aa.py").exists()


def test_the_installer_works_for_this_interpreter() -> None:
    assert sys.executable in overlay.installer()
