"""`.dockerignore` keeps out of a build what Docker would keep out."""

from pathlib import Path

import pytest

from podling.images import dockerignore
from podling.images.errors import BuildError


@pytest.mark.parametrize(
    ("patterns", "ignored", "kept"),
    [
        ("*.pyc", ["a.pyc"], ["a.py", "d/a.pyc"]),
        ("**/*.pyc", ["a.pyc", "d/e/a.pyc"], ["a.py"]),
        ("node_modules", ["node_modules", "node_modules/x/y.js"], ["web/node_modules/x.js", "node_modules2"]),
        ("/build/", ["build", "build/x"], ["src/build"]),
        ("*\n!README.md", ["a", "b/c"], ["README.md"]),
        ("docs\n!docs/keep.md", ["docs/a.md"], ["docs/keep.md"]),
        ("!a\n*", ["a"], []),
        ("# comment\n\n  .git  ", [".git/config"], ["# comment"]),
        ("temp?", ["tempa", "tempb/x"], ["temp", "tempab"]),
        ("[a-c].txt", ["a.txt"], ["d.txt"]),
        ("[^a].txt", ["b.txt"], ["a.txt"]),
        ("**", ["a", "a/b/c"], []),
        ("a/**/z", ["a/z", "a/b/c/z"], ["z", "a/zz"]),
        ("./x/../y", ["y"], ["x"]),
        (r"\*.txt", ["*.txt"], ["a.txt"]),
    ],
)
def test_the_last_matching_pattern_decides(patterns: str, ignored: list[str], kept: list[str]) -> None:
    ignore = dockerignore.parse(patterns)
    assert [path for path in ignored if not ignore.ignores(path)] == []
    assert [path for path in kept if ignore.ignores(path)] == []


def test_an_ignored_directory_is_walked_only_if_something_in_it_is_taken_back() -> None:
    ignore = dockerignore.parse("*\n!src/app/*.py\n!top.txt")
    assert ignore.may_hold_exceptions("src")
    assert ignore.may_hold_exceptions("src/app")
    assert not ignore.may_hold_exceptions("docs")


def test_a_bad_pattern_is_named_with_its_line() -> None:
    with pytest.raises(BuildError, match=r"^\.dockerignore:2: syntax error in pattern: \[a"):
        dockerignore.parse("ok\n[a")


def test_the_dockerfiles_own_ignore_file_comes_first(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("a")
    (tmp_path / "Dockerfile.dockerignore").write_text("b")
    assert dockerignore.load(tmp_path, tmp_path / "Dockerfile").ignores("b")
    assert dockerignore.load(tmp_path, tmp_path / "Other").ignores("a")
    assert not dockerignore.load(tmp_path / "none", tmp_path / "none" / "Dockerfile").ignores("a")
