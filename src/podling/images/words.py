"""The small shell language of a Dockerfile's words: quotes, escapes and `${variable:-default}`.

The rules are those of BuildKit's shell lexer (frontend/dockerfile/shell): quotes are removed, single quotes keep their
text as it is, variables are replaced outside and inside double quotes, an unset variable is the empty string.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from podling.images.dockerignore import glob_expression

Lookup = Callable[[str], "str | None"]
"""The value of a variable, None when it is not set."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]")
_MODIFIERS = ("##", "%%", "//", ":-", ":+", ":?", "#", "%", "/", "-", "+", "?")


class WordError(ValueError):
    """A word that cannot be read; the text is BuildKit's."""


def expand(text: str, lookup: Lookup, escape: str = "\\") -> str:
    """The word with its variables replaced and its quotes removed."""
    return _Reader(text, lookup, escape).read()


def expand_words(text: str, lookup: Lookup, escape: str = "\\") -> list[str]:
    """Like `expand`, for the instructions whose arguments are split after expansion (EXPOSE, VOLUME)."""
    return [word for part in split(text, escape) for word in expand(part, lookup, escape).split()]


def split(text: str, escape: str = "\\") -> list[str]:
    """Cuts at blanks outside quotes; the quotes stay, since `expand` needs to see them."""
    words: list[str] = []
    word, quote, i = "", "", 0
    while i < len(text):
        char = text[i]
        if char == escape and quote != "'" and i + 1 < len(text):
            word += text[i : i + 2]
            i += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char.isspace():
            if word:
                words.append(word)
            word, i = "", i + 1
            continue
        word += char
        i += 1
    return [*words, word] if word else words


class _Reader:
    """One pass over one word."""

    def __init__(self, text: str, lookup: Lookup, escape: str) -> None:
        self._text = text
        self._at = 0
        self._lookup = lookup
        self._escape = escape

    def read(self) -> str:
        return "".join(self._pieces())

    def _pieces(self, *, until: str = "") -> Iterator[str]:
        while self._at < len(self._text):
            char = self._text[self._at]
            if until and char == until:
                return
            self._at += 1
            if char == "'":
                yield self._single_quoted()
            elif char == '"':
                yield from self._double_quoted()
            elif char == "$":
                yield self._variable()
            elif char == self._escape:
                yield self._escaped()
            else:
                yield char
        if until:
            raise WordError("syntax error: missing '}'")

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise WordError("unexpected end of statement while looking for matching single-quote")
        piece, self._at = self._text[self._at : end], end + 1
        return piece

    def _double_quoted(self) -> Iterator[str]:
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 1
            if char == '"':
                return
            if char == "$":
                yield self._variable()
            elif char == self._escape and self._text[self._at : self._at + 1] in ('"', "$", self._escape):
                yield self._escaped()
            else:
                yield char
        raise WordError("unexpected end of statement while looking for matching double-quote")

    def _escaped(self) -> str:
        """At the very end the escape character stands for itself."""
        if self._at >= len(self._text):
            return self._escape
        self._at += 1
        return self._text[self._at - 1]

    def _variable(self) -> str:
        if self._text.startswith("{", self._at):
            self._at += 1
            return self._braced()
        name = self._name()
        return (self._lookup(name) or "") if name else "$"

    def _name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _braced(self) -> str:
        name = self._name()
        if not name:
            raise WordError("syntax error: bad substitution")
        value = self._lookup(name)
        if self._text.startswith("}", self._at):
            self._at += 1
            return value or ""
        modifier = next((m for m in _MODIFIERS if self._text.startswith(m, self._at)), None)
        if self._at >= len(self._text):
            raise WordError("syntax error: missing '}'")
        if modifier is None:
            raise WordError(f"unsupported modifier ({self._text[self._at : self._at + 1]}) in substitution")
        self._at += len(modifier)
        if modifier in ("/", "//"):
            return self._replaced(value or "", everywhere=modifier == "//")
        operand = "".join(self._pieces(until="}"))
        self._at += 1
        return _modified(name, value, modifier, operand)

    def _replaced(self, value: str, *, everywhere: bool) -> str:
        pattern = "".join(self._pieces(until="/"))
        self._at += 1
        replacement = "".join(self._pieces(until="}"))
        self._at += 1
        return re.sub(_shell_pattern(pattern), lambda _: replacement, value, count=0 if everywhere else 1)


def _modified(name: str, value: str | None, modifier: str, operand: str) -> str:
    missing = value is None or (modifier.startswith(":") and not value)
    match modifier:
        case ":-" | "-":
            return operand if missing else value or ""
        case ":+" | "+":
            return "" if missing else operand
        case ":?" | "?":
            if missing:
                empty = " or empty" if modifier == ":?" and value is not None else ""
                raise WordError(f"{name}: {operand or f'is not allowed to be unset{empty}'}")
            return value or ""
        case "#" | "##":
            return _trimmed(value or "", operand, longest=modifier == "##", front=True)
        case _:
            return _trimmed(value or "", operand, longest=modifier == "%%", front=False)


def _trimmed(value: str, pattern: str, *, longest: bool, front: bool) -> str:
    """Removes the shortest or longest match of a pattern from the front or the end."""
    expression = re.compile(_shell_pattern(pattern))
    cuts = range(len(value) + 1)
    for cut in reversed(cuts) if longest == front else cuts:
        part, rest = (value[:cut], value[cut:]) if front else (value[cut:], value[:cut])
        if expression.fullmatch(part):
            return rest
    return value


def _shell_pattern(pattern: str) -> str:
    """In a variable's text `*` crosses slashes, other than in a path."""
    return glob_expression(pattern).replace("[^/]", "(?s:.)")
