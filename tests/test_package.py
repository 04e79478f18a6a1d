"""What the distribution carries: the public names, the version, the entry points, the wheel."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import import_module
from importlib.metadata import EntryPoint, distribution
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

import airflow_sm_git
from airflow_sm_git.provider_info import get_provider_info
from scripts.module_table import updated

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = CHECKOUT / "airflow_sm_git"
HOMES = airflow_sm_git._HOMES


def built(module: str) -> bool:
    """Whether the tree has the module."""
    path = CHECKOUT.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def setup_cfg() -> configparser.ConfigParser:
    """What setup.cfg says."""
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keys keep their case
    parser.read(CHECKOUT / "setup.cfg")
    return parser


def entry_points() -> list[EntryPoint]:
    """The entry points that setup.cfg names."""
    section = setup_cfg()["options.entry_points"]
    pairs = [(group, line) for group, lines in section.items() for line in lines.split("\n") if line.strip()]
    split = [(group, *(part.strip() for part in line.split("=", 1))) for group, line in pairs]
    return [EntryPoint(name=name, value=value, group=group) for group, name, value in split]


def test_every_public_name_is_the_one_its_module_defines() -> None:
    present = {name: f"airflow_sm_git.{home}" for name, home in HOMES.items() if built(f"airflow_sm_git.{home}")}
    for name, module in present.items():
        assert getattr(airflow_sm_git, name) is getattr(import_module(module), name)
        assert getattr(import_module(module), name).__module__ == module


def test_the_chain_does_not_come_before_what_it_chains() -> None:
    missing = [name for name, home in HOMES.items() if not built(f"airflow_sm_git.{home}")]
    assert not (built("airflow_sm_git.chain") and missing)


def test_type_checkers_are_told_of_every_public_name() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    told = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert told == {name: f"airflow_sm_git.{home}" for name, home in HOMES.items()}


def test_dir_lists_every_public_name() -> None:
    assert set(HOMES) <= set(dir(airflow_sm_git))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'TrainOperatr'"):
        _ = airflow_sm_git.TrainOperatr


def test_the_version_is_the_changelogs_newest() -> None:
    versions = re.findall(r"^## \[(.+?)\]", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert airflow_sm_git.__version__ == versions[0]


def test_setup_cfg_lists_every_package_of_the_tree() -> None:
    listed = setup_cfg()["options"]["packages"].split()
    found = {".".join(path.parent.relative_to(CHECKOUT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert sorted(listed) == sorted({*found, "airflow_sm_git.example_dags"})


def test_the_table_of_modules_is_what_the_modules_say() -> None:
    page = (CHECKOUT / "CONTRIBUTING.md").read_text()
    assert page == updated(page, CHECKOUT), "run: .venv/bin/python scripts/module_table.py"


def test_every_directory_with_modules_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py") if not path.is_relative_to(PACKAGE / "demo" / "files")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_entry_point_can_be_loaded() -> None:
    for entry in entry_points():
        if built(entry.module):
            assert entry.load() is not None, entry


def test_the_installed_entry_points_are_those_of_setup_cfg() -> None:
    installed = {(entry.group, entry.name, entry.value) for entry in distribution("airflow-sm-git").entry_points}
    assert installed == {(entry.group, entry.name, entry.value) for entry in entry_points()}


def test_airflow_accepts_the_provider_metadata() -> None:
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_no_constraint_names_a_host_or_a_path() -> None:
    for path in (CHECKOUT / "constraints").glob("*.txt"):
        pins = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert pins
        assert [line for line in pins if not re.fullmatch(r"[a-z0-9._-]+==[^ /@:]+( ; .+)?", line)] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree so that nothing is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        if (CHECKOUT / name).exists():
            shutil.copy(CHECKOUT / name, source)
    for name in ("airflow_sm_git", "dags"):
        shutil.copytree(CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(source), str(source)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (path,) = source.glob("*.whl")
    return path


def test_the_wheel_carries_every_module_and_data_file_and_nothing_else(wheel: Path) -> None:
    def kept(path: Path) -> bool:
        return path.is_file() and "__pycache__" not in path.parts

    expected = {str(path.relative_to(CHECKOUT)) for path in PACKAGE.rglob("*") if kept(path)}
    examples = CHECKOUT / "dags" / "examples"
    expected |= {f"airflow_sm_git/example_dags/{path.name}" for path in examples.glob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {Path(name).name for name in archive.namelist() if ".dist-info/" in name}
    assert carried == expected
    assert {"METADATA", "entry_points.txt", "LICENSE"} <= metadata


def test_the_wheel_can_be_used_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import airflow_sm_git.example_dags as e; print(e.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
