"""Paths and ranges: which commits a branch is followed back to, and how little of the remote that takes."""

from __future__ import annotations

import random
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_sm_git.clients.git import GitClient
from airflow_sm_git.core.errors import BadParameter, RefNotFound
from airflow_sm_git.core.source import Source
from tests.clients.packaging import package
from tests.git_server import FIRST_COMMIT, GitServer, Repository, git


def at(commit: int) -> datetime:
    """When the commit of that number was made."""
    return datetime.fromtimestamp(FIRST_COMMIT, UTC) + timedelta(hours=commit)


def test_with_paths_it_is_the_last_commit_that_changed_one_of_them(repository: Repository, client: GitClient) -> None:
    shas = repository.commits([{"src/train.py": b"1"}, {"lib/a.py": b"1"}, {"src/train.py": b"2"}, {"README.md": b"1"}])
    repository.tag("v1", shas[1])
    source = Source(repository.url, "main")
    for paths, number in {("src",): 2, ("lib",): 1, ("lib", "src/train.py"): 2, ("README.md",): 3, (".",): 3}.items():
        assert client.resolve(source, paths=paths).commit == shas[number], paths
    for start in ("v1", shas[1], shas[1][:9]):
        assert client.resolve(Source(repository.url, start), paths=["src"]).commit == shas[0]
    assert client.resolve(source, paths=["src"], as_of=at(2)).commit == shas[0]
    assert client.resolve(source, paths=["src"]) == client.resolve(source, as_of=at(3))


def test_a_merge_changed_what_it_brought_to_the_branch_and_the_side_is_not_the_branch(
    repository: Repository, client: GitClient
) -> None:
    first = repository.commit({"src/train.py": b"1", "x": b""})
    side = repository.commit({"src/train.py": b"2"}, branch="side", start=first)
    merge = repository.commit({"src/train.py": b"2"}, merge=side)
    repository.commit({"x": b"2"})
    assert client.resolve(Source(repository.url), paths=["src"]).commit == merge
    assert client.resolve(Source(repository.url), paths=["src"], as_of=at(2)).commit == first


def test_a_path_means_what_it_spells(repository: Repository, client: GitClient) -> None:
    names = ("*", ":(top)x", "[ab].py", "-x", "grüße")
    shas = repository.commits([{name: b"1"} for name in names] + [{"a.py": b"1"}])
    for name, sha in zip(names, shas, strict=False):
        assert client.resolve(Source(repository.url), paths=[name]).commit == sha
    for outside in ("../x", "/etc", "a/../../b", "a\nb", ""):
        with pytest.raises(BadParameter, match=r"^paths="):
            client.resolve(Source(repository.url), paths=[outside])
        with pytest.raises(BadParameter, match=r"^paths="):
            client.commits(Source(repository.url), paths=[outside])
    with pytest.raises(BadParameter, match=r"must be a list"):
        client.resolve(Source(repository.url), paths="src")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("scr", "changed 'scr'. Did you mean 'src'?"),
        ("src/tarin.py", "Did you mean 'src/train.py'?"),
        ("src/none/at/all", "There is 'src/train.py'."),
        ("zzz", "There is 'README.md', 'src'."),
    ],
)
def test_paths_that_nothing_changed_say_what_there_is(
    repository: Repository, client: GitClient, path: str, said: str
) -> None:
    repository.commits([{"README.md": b"1"}, {"src/train.py": b"1"}])
    with pytest.raises(RefNotFound) as error:
        client.resolve(Source(repository.url), paths=[path])
    assert said in str(error.value)


def test_paths_that_came_later_say_so(repository: Repository, client: GitClient) -> None:
    repository.commits([{"README.md": b"1"}, {"src/train.py": b"1"}])
    with pytest.raises(RefNotFound, match=r"at or before 2024-01-01T01:00.*changed 'src'\. Choose a later time"):
        client.resolve(Source(repository.url), paths=["src"], as_of=at(1))


def long_history(repository: Repository, count: int = 1200) -> list[str]:
    """Commits of which the tenth alone changed ``seldom``, and each third ``often``."""
    changes = [{"noise": b"%d" % n} | ({"often/x": b"%d" % n} if n % 3 == 0 else {}) for n in range(count)]
    changes[10] |= {"seldom": b"1"}
    return repository.commits(changes)


def test_no_more_history_is_fetched_than_the_answer_needs(
    repository: Repository, server: GitServer, client: GitClient, tmp_path: Path
) -> None:
    shas = long_history(repository)
    source = Source(server.url("models.git"))
    assert client.resolve(source, paths=["often"]).commit == shas[1197]
    assert server.packs == 1
    some = server.sent
    assert client.resolve(source, paths=["seldom"]).commit == shas[10]
    assert server.packs == 2 and server.sent > some * 1.5
    assert client.resolve(source, paths=["often"], as_of=at(50)).commit == shas[48]
    assert server.packs == 2
    # The oldest commit that was fetched looks as if it had changed everything; it did not.
    fresh = GitClient(tmp_path / "fresh", allowed_schemes={"http"})
    assert fresh.resolve(source, paths=["seldom"]).commit == shas[10]


def test_a_time_not_long_ago_costs_one_pack_and_any_other_no_trees_of_all_the_commits_between(
    repository: Repository, server: GitServer, client: GitClient, tmp_path: Path
) -> None:
    shas = long_history(repository)
    source = Source(server.url("models.git"))
    assert client.resolve(source, as_of=at(1190)).commit == shas[1189]
    assert server.packs == 1
    assert client.resolve(source, as_of=at(30)).commit == shas[29]
    assert server.packs == 3  # the commits alone; the one with its trees
    assert client.resolve(source, as_of=at(700)).commit == shas[699]
    with pytest.raises(RefNotFound, match="no commit at or before"):
        client.resolve(source, as_of=at(0))


def test_a_tip_that_moved_costs_its_new_commits_alone(
    repository: Repository, server: GitServer, client: GitClient
) -> None:
    long_history(repository)
    source = Source(server.url("models.git"))
    client.resolve(source, paths=["seldom"])
    before = server.sent
    new = repository.commit({"often/x": b"new"})
    assert client.resolve(source).commit == new  # this alone would cut the history off
    assert client.resolve(source, paths=["often"]).commit == new
    assert client.resolve(source, paths=["seldom"]).subject == "commit 11"
    assert server.sent - before < 4000


def shas_of(client: GitClient, url: str, ref: str | None = None, **options: object) -> list[str]:
    return [found.commit for found in client.commits(Source(url, ref), **options)]  # type: ignore[arg-type]


def test_a_range_leaves_out_its_start_and_takes_its_end_oldest_first(repository: Repository, client: GitClient) -> None:
    shas = repository.commits([{"x": b"%d" % n} for n in range(6)])
    repository.tag("light", shas[1])
    repository.tag("noted", shas[1], annotated=True)
    tag = repository.sha("refs/tags/noted")
    for since in ("light", "noted", "refs/tags/light", shas[1], shas[1][:8], tag):
        assert shas_of(client, repository.url, since=since) == shas[2:], since
        assert shas_of(client, repository.url, shas[4], since=since) == shas[2:5], since
    assert shas_of(client, repository.url, "noted") == shas[:2]
    assert shas_of(client, repository.url, since="light", limit=2) == shas[4:]
    assert shas_of(client, repository.url, since="main") == []
    described = client.commits(Source(repository.url, "main"), since=shas[4])
    assert described == [client.resolve(Source(repository.url, "main"))]


def test_a_range_follows_first_parents_from_a_start_on_the_branch_or_merged_into_it(
    repository: Repository, client: GitClient
) -> None:
    first = repository.commit({"x": b"1"})
    side = repository.commit({"side": b"1"}, branch="side", start=first)
    second = repository.commit({"x": b"2"})
    merge = repository.commit({"side": b"1"}, merge=side)
    last = repository.commit({"x": b"4"})
    assert shas_of(client, repository.url, since=first) == [second, merge, last]
    assert shas_of(client, repository.url, since=side) == [second, merge, last]
    assert shas_of(client, repository.url, since=first, paths=["side"]) == [merge]


def test_a_start_that_does_not_come_before_the_end_is_refused(repository: Repository, client: GitClient) -> None:
    shas = repository.commits([{"x": b"%d" % n} for n in range(3)])
    other = repository.commit({"y": b""}, branch="other", start=shas[0])
    for since in (shas[2], other, "other"):
        with pytest.raises(BadParameter, match=rf"since='{since}'.* does not come before '{shas[1]}'.*Turn"):
            client.commits(Source(repository.url, shas[1]), since=since)
    with pytest.raises(RefNotFound, match="no commit " + "a" * 40):
        client.commits(Source(repository.url), since="a" * 40)
    with pytest.raises(RefNotFound, match="'mian'"):
        client.commits(Source(repository.url), since="mian")


def test_a_range_over_paths_takes_what_changed_them_however_long_ago(
    repository: Repository, server: GitServer, client: GitClient
) -> None:
    shas = long_history(repository)
    often = shas[0::3]
    url = server.url("models.git")
    assert shas_of(client, url, limit=50, paths=["often"]) == often[-50:]
    assert server.packs == 2
    assert shas_of(client, url, limit=300, paths=["often"]) == often[-300:]
    assert shas_of(client, url, limit=300, paths=["often", "seldom"]) == often[-300:]
    assert shas_of(client, url, since=shas[5], limit=500, paths=["often", "seldom"]) == [
        sha for sha in shas[6:] if sha in often or sha == shas[10]
    ]


def changing(count: int) -> list[dict[str, bytes]]:
    """Commits that each change one of three files of ``src``, and something beside it."""
    attributes = {"src/train.py": b"print()", ".gitattributes": b"*.txt text", "src/deep/.gitattributes": b"x text"}
    changes = [{f"src/deep/{n % 3}.txt": b"%d" % n * 50, "data.bin": bytes([n % 256]) * 5000} for n in range(count)]
    return [attributes | changes[0], *changes[1:]]


def test_after_a_range_over_paths_packages_of_them_ask_for_nothing_more(
    repository: Repository, server: GitServer, client: GitClient, tmp_path: Path
) -> None:
    shas = repository.commits(changing(120))
    url = server.url("models.git")
    assert shas_of(client, url, limit=100, paths=["src"]) == shas[20:]
    assert server.packs == 2  # commits with their trees, and the blobs
    asked, sent = len(server.requests), server.sent
    digests = {package(client, url, sha)[0].digest for sha in shas[-100::9]}
    assert len(digests) == 12
    assert package(client, url, shas[-1], source_dir="src/deep", entry_point="0.txt")[0].file_count == 4
    assert package(client, url, shas[-1], source_dir=None, entry_point="src/train.py")[0].file_count == 1
    assert (len(server.requests), server.sent) == (asked, sent)
    assert sent < 200_000, "blobs beside the paths came too"
    (mirror,) = (tmp_path / "cache/mirrors").glob("*/objects")
    for path in (".gitattributes", "src/deep/.gitattributes"):  # what a package's files are chosen by
        git("--git-dir", mirror, "cat-file", "-e", f"{shas[30]}:{path}")


def test_after_a_range_without_paths_packages_ask_for_their_blobs_alone(
    repository: Repository, server: GitServer, client: GitClient
) -> None:
    shas = repository.commits(changing(30))
    url = server.url("models.git")
    assert shas_of(client, url, limit=10) == shas[-10:]
    assert server.packs == 1
    package(client, url, shas[-5])
    assert server.packs == 2
    assert shas_of(client, url, since=shas[-8], limit=5) == shas[-5:]
    assert server.packs == 2


def branchy_history(repository: Repository, dice: random.Random, count: int) -> list[str]:
    """Commits with merges of short and long side branches, and paths that change often, seldom and hardly ever."""
    lines: list[str] = []
    tips: dict[str, int] = {}
    for number in range(1, count + 1):
        branch = "side" if 1 < number < count and dice.random() < 0.3 else "main"
        when = FIRST_COMMIT + 60 * (number + dice.choice([0, 0, 0, -5]))
        lines.append(f"commit refs/heads/{branch}\nmark :{number}\ncommitter A <a@example.com> {when} +0000\ndata 0\n")
        parent = tips["main"] if branch == "side" and dice.random() < 0.2 else tips.get(branch, tips.get("main"))
        lines += [f"from :{parent}\n"] if parent else []
        lines += [f"merge :{tips['side']}\n"] if branch == "main" and "side" in tips and dice.random() < 0.1 else []
        tips[branch] = number
        for path, often in {"often": 0.5, "seldom/x": 0.01, "hardly/ever/y": 0.002}.items():
            if dice.random() < often or number == 1:
                lines.append(f"M 100644 inline {path}\ndata {len(str(number))}\n{number}\n")
    git("-C", repository.path, "fast-import", "--quiet", stdin="".join(lines).encode())
    return git("-C", repository.path, "rev-list", "--all").split()


@pytest.mark.slow
def test_on_any_history_in_any_order_the_answers_are_those_of_a_full_clone(tmp_path: Path) -> None:
    for seed in range(4):
        dice = random.Random(seed)  # noqa: S311
        other = Repository(tmp_path / f"{seed}.git")
        everything = branchy_history(other, dice, dice.choice([30, 700, 1500]))
        client = GitClient(tmp_path / f"cache {seed}", allowed_schemes={"file"})
        main = git("-C", other.path, "rev-list", "--first-parent", "main").split()
        for _ in range(30):
            tip = dice.choice(["main", "side", main[dice.randrange(len(main))], dice.choice(everything)])
            paths = dice.choice([[], ["seldom"], ["hardly/ever"], ["often", "seldom/x"]])
            if dice.random() < 0.4:
                assert_last_change(client, other, tip, paths)
            else:
                since = dice.choice([None, None, dice.choice(main), dice.choice(everything)])
                assert_range(client, other, tip, since, dice.choice([1, 7, 40, None]), paths)


def assert_last_change(client: GitClient, repository: Repository, tip: str, paths: list[str]) -> None:
    expected = git("-C", repository.path, "log", "--first-parent", "--format=%H", "-1", tip, "--", *paths)
    try:
        assert client.resolve(Source(repository.url, tip), paths=paths).commit == expected
    except RefNotFound:
        assert expected == ""


def assert_range(
    client: GitClient, repository: Repository, tip: str, since: str | None, limit: int | None, paths: list[str]
) -> None:
    bounds = [f"{since}..{tip}" if since else tip, *([f"--max-count={limit}"] if limit else [])]
    expected = git("-C", repository.path, "log", "--first-parent", "--format=%H", *bounds, "--", *paths).split()
    below = f"git -C {repository.path} merge-base --is-ancestor {since} {tip}".split()
    if since and subprocess.run(below, check=False, capture_output=True).returncode:
        with pytest.raises(BadParameter, match="does not come before"):
            shas_of(client, repository.url, tip, since=since, limit=limit, paths=paths)
    else:
        assert shas_of(client, repository.url, tip, since=since, limit=limit, paths=paths) == expected[::-1]
