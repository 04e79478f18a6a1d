from __future__ import annotations

import pytest

from airflow_sm_git.core.errors import BadParameter, PathNotFound, UnsafeTree
from airflow_sm_git.core.tree import TreeEntry, check_layout, select

TREE = [
    TreeEntry(path, mode, f"{number:040x}")
    for number, (path, mode) in enumerate(
        [
            ("README.md", "100644"),
            ("lib/a/__init__.py", "100644"),
            ("lib/b.py", "100644"),
            ("link.py", "120000"),
            ("src/train.py", "100755"),
            ("src/nested/serve.py", "100644"),
            ("src2/other.py", "100644"),
            ("vendored/sub", "160000"),
            ("vendored/x.py", "100644"),
        ]
    )
]


def chosen(source_dir: str | None, entry_point: str, *dependencies: str) -> dict[str, str]:
    return {member.path: member.entry.path for member in select(TREE, source_dir, entry_point, dependencies).members}


def test_without_source_dir_the_entry_point_alone_lies_at_the_root() -> None:
    selection = select(TREE, None, "src/nested/serve.py")
    assert [(m.path, m.entry.path) for m in selection.members] == [("serve.py", "src/nested/serve.py")]
    assert (selection.entry_point, selection.source_dir) == ("serve.py", None)


def test_with_source_dir_its_children_lie_at_the_root_and_keep_their_places() -> None:
    assert chosen("./src/", "nested/serve.py") == {
        "train.py": "src/train.py",
        "nested/serve.py": "src/nested/serve.py",
    }
    assert select(TREE, "src", "nested/serve.py").entry_point == "nested/serve.py"


def test_dependencies_lie_at_the_root_under_their_base_names() -> None:
    assert chosen("src", "train.py", "lib/a", "lib/b.py") == {
        "train.py": "src/train.py",
        "nested/serve.py": "src/nested/serve.py",
        "a/__init__.py": "lib/a/__init__.py",
        "b.py": "lib/b.py",
    }


@pytest.mark.parametrize("dependencies", [("lib/b.py", "lib/b.py"), ("src/train.py",), ("src/nested",)])
def test_two_things_for_one_name_are_refused(dependencies: tuple[str, ...]) -> None:
    with pytest.raises(BadParameter, match="is in the package already") as error:
        chosen("src", "train.py", *dependencies)
    assert error.value.parameter == "dependencies"


def test_the_whole_repository_cannot_be_a_dependency() -> None:
    with pytest.raises(BadParameter, match="no base name"):
        chosen("src", "train.py", ".")


@pytest.mark.parametrize(
    ("source_dir", "entry_point", "dependencies", "said"),
    [
        ("scr", "train.py", (), "no source_dir 'scr'. Did you mean 'src'"),
        ("nested", "serve.py", (), "no source_dir 'nested'. Did you mean 'src/nested'"),
        ("zzz", "train.py", (), "There is 'lib', 'lib/a', 'src', 'src/nested', 'src2', 'vendored'"),
        ("src/train.py", "train.py", (), "source_dir 'src/train.py' is a file"),
        ("src", "tarin.py", (), "not a file in source_dir 'src' of the commit. Did you mean 'train.py'"),
        ("src", "src/train.py", (), "relative to source_dir. Write 'train.py'"),
        ("src", "zzz", (), "There is 'nested/serve.py', 'train.py'"),
        ("src", "nested", (), "not a file in source_dir"),
        (None, "train.py", (), "no entry_point 'train.py'. Did you mean 'src/train.py'"),
        (None, "src", (), "'src' is a directory"),
        (None, "src/train.py", ("lib/c.py",), "no dependencies 'lib/c.py'. Did you mean 'lib/b.py'"),
    ],
)
def test_a_missing_path_says_what_is_there(
    source_dir: str | None, entry_point: str, dependencies: tuple[str, ...], said: str
) -> None:
    with pytest.raises(PathNotFound) as error:
        chosen(source_dir, entry_point, *dependencies)
    assert said in str(error.value)


def test_a_path_out_of_the_repository_names_its_parameter() -> None:
    for parameter, call in {
        "source_dir": lambda: chosen("../etc", "passwd"),
        "entry_point": lambda: chosen("src", "../README.md"),
        "dependencies": lambda: chosen("src", "train.py", "/etc/passwd"),
    }.items():
        with pytest.raises(BadParameter) as error:
            call()
        assert error.value.parameter == parameter


def test_a_submodule_is_refused_only_where_it_would_be_packaged() -> None:
    with pytest.raises(UnsafeTree, match="'vendored/sub' is a submodule"):
        chosen("vendored", "x.py")
    with pytest.raises(UnsafeTree, match="'vendored/sub' is a submodule"):
        chosen("src", "train.py", "vendored")
    assert chosen(None, "vendored/x.py")


def test_a_link_as_the_only_file_is_refused() -> None:
    with pytest.raises(UnsafeTree, match="is a symlink"):
        chosen(None, "link.py")


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        "a/.GIT/hooks/x",
        ".gIt",
        ".g\u200cit/config",
        "\uff0egit/config",
        "git~1/config",
        "GIT~1",
        ".git./x",
        ".git /x",
        ".git::$INDEX_ALLOCATION/x",
        "a\\.git\\config",
    ],
)
def test_dot_git_is_refused_in_every_disguise(path: str) -> None:
    with pytest.raises(UnsafeTree, match="in disguise"):
        check_layout([path], {})


@pytest.mark.parametrize("path", [".gitignore", ".github/x", "git", "a.git", ".git-keep", "git~2", ".gitattributes"])
def test_names_that_only_begin_like_dot_git_are_accepted(path: str) -> None:
    check_layout([path], {})


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "./x", ""])
def test_paths_that_may_leave_are_refused(path: str) -> None:
    with pytest.raises(UnsafeTree, match="may leave"):
        check_layout([path], {})


@pytest.mark.parametrize(
    "paths",
    [
        ["a", "A"],
        ["dir/x", "DIR/y"],
        ["stra\u00dfe", "STRASSE"],
        ["\u00e9", "e\u0301"],
        ["a/b/c", "a/B"],
    ],
)
def test_names_that_collide_elsewhere_are_refused(paths: list[str]) -> None:
    with pytest.raises(UnsafeTree, match="are one name"):
        check_layout(paths, {})


def test_one_name_twice_is_refused() -> None:
    with pytest.raises(UnsafeTree, match="twice"):
        check_layout(["a", "a"], {})


def test_a_path_below_a_file_or_link_is_refused() -> None:
    with pytest.raises(UnsafeTree, match="'a/b' lies below 'a'"):
        check_layout(["a", "a/b"], {"a": "/etc"})


def test_a_name_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(UnsafeTree, match="not UTF-8"):
        check_layout([b"caf\xe9".decode("utf-8", "surrogateescape")], {})


@pytest.mark.parametrize(
    "links",
    [
        {"x": "/etc/passwd"},
        {"x": ".."},
        {"d/x": "../../y"},
        {"a/b/l": "../..", "m": "a/b/l/.."},  # by spelling a/b: inside
        {"x": "y", "y": "x"},
        {"x": "x"},
        {"d/x": "y", "d/y": "/etc"},
    ],
)
def test_links_that_leave_the_package_are_refused(links: dict[str, str]) -> None:
    with pytest.raises(UnsafeTree, match="leaves the packaged tree, or never ends"):
        check_layout(list(links), links)


@pytest.mark.parametrize("links", [{"x": "y"}, {"d/x": "../y"}, {"x": "d", "y": "x/../z"}, {"a/b/x": "../.././y"}])
def test_links_that_stay_inside_are_accepted(links: dict[str, str]) -> None:
    check_layout([*links, "d/file"], links)


@pytest.mark.parametrize("path", ["a\\..\\b", "..\\b", "a/.\\b", "a\\.."])
def test_names_that_are_paths_on_another_system_must_not_leave_the_package(path: str) -> None:
    with pytest.raises(UnsafeTree, match="may leave the package"):
        check_layout([path], {})
