"""`.dockerignore`: which files of a build context the build never sees (moby/patternmatcher's rules).

A pattern matches a path, and everything below a directory that it matches. Later patterns win over earlier ones, and
`!pattern` takes a path back in. `*` stays within one directory, `**` crosses them; patterns are anchored at the root.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from podling.images.errors import BuildError


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line: `taken_back` for a line that starts with `!`."""

    text: str
    expression: re.Pattern[str]
    taken_back: bool

    def matches(self, path: str) -> bool:
        """Whether it matches the path or a directory above it."""
        return any(self.expression.fullmatch(candidate) for candidate in _with_parents(path))


@dataclass(frozen=True, slots=True)
class Ignore:
    """All patterns of a file, in order; empty ignores nothing."""

    patterns: tuple[Pattern, ...] = ()

    def ignores(self, path: str) -> bool:
        """Whether `path` (relative to the context, `/` between parts) stays out of the build."""
        ignored = False
        for pattern in self.patterns:
            if pattern.taken_back is ignored and pattern.matches(path):
                ignored = not pattern.taken_back
        return ignored

    def may_hold_exceptions(self, directory: str) -> bool:
        """Whether something below an ignored directory may have been taken back, so that it must be walked."""
        return any(pattern.taken_back and _could_be_below(pattern.text, directory) for pattern in self.patterns)


def parse(text: str, *, file: str = ".dockerignore") -> Ignore:
    """The patterns of a file's text; raises `BuildError` with the line of a bad pattern."""
    patterns: list[Pattern] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        entry = line.strip()
        if not entry or line.startswith("#"):
            continue
        patterns.append(_pattern(entry, file, number))
    return Ignore(tuple(patterns))


def load(context: Path, dockerfile: Path) -> Ignore:
    """The file that holds for this build: `<Dockerfile>.dockerignore` beside the Dockerfile, else the context's own."""
    for candidate in (dockerfile.with_name(dockerfile.name + ".dockerignore"), context / ".dockerignore"):
        try:
            text = candidate.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        return parse(text, file=str(candidate))
    return Ignore()


def glob_expression(pattern: str) -> str:
    """A regular expression for a pattern with Go's `filepath.Match` syntax and `**`; raises `ValueError`."""
    return "".join(_translate(pattern))


def _pattern(entry: str, file: str, line: int) -> Pattern:
    taken_back = entry.startswith("!")
    body = entry[1:].strip() if taken_back else entry
    if not body:
        raise BuildError(
            'illegal exclusion pattern: "!"', file=file, line=line, hint="Name what the `!` takes back in."
        )
    cleaned = posixpath.normpath(body).lstrip("/") or "."
    try:
        expression = re.compile(glob_expression(cleaned), re.DOTALL)
    except (ValueError, re.error) as error:
        raise BuildError(f"syntax error in pattern: {body}", file=file, line=line) from error
    return Pattern(cleaned, expression, taken_back)


def _translate(pattern: str) -> Iterator[str]:
    i = 0
    while i < len(pattern):
        char = pattern[i]
        if pattern.startswith("**", i):
            i += 2
            if pattern.startswith("/", i):
                i += 1
                yield "(?:.*/)?"
            else:
                yield ".*"
            continue
        if char == "[":
            end = _class_end(pattern, i)
            yield _character_class(pattern[i + 1 : end])
            i = end + 1
            continue
        if char == "\\" and i + 1 < len(pattern):
            i += 1
            yield re.escape(pattern[i])
        else:
            yield {"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char)
        i += 1


def _class_end(pattern: str, start: int) -> int:
    end = pattern.find("]", start + 2)
    if end < 0:
        raise ValueError("missing ]")
    return end


def _character_class(body: str) -> str:
    negated = body.startswith("^")
    inner = body[1:] if negated else body
    return f"[{'^/' if negated else ''}{inner.replace('[', chr(92) + '[')}]"


def _with_parents(path: str) -> Iterator[str]:
    yield path
    while (cut := path.rfind("/")) > 0:
        path = path[:cut]
        yield path


def _could_be_below(pattern: str, directory: str) -> bool:
    """By the part before the first wildcard: a cheap "perhaps" that is never a wrong "no"."""
    literal = re.split(r"[*?\[\\]", pattern, maxsplit=1)[0]
    if literal == pattern:
        return (pattern + "/").startswith(directory + "/")
    return (directory + "/").startswith(literal) or literal.startswith(directory + "/")
