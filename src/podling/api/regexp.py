"""Regular expressions as Go has them (RE2): those that users write into schemas and expressions.

Python's own are another language, and a few characters of theirs can hold the event loop for hours; RE2 takes a time
in proportion to the text, whatever the pattern.
"""

# The binding of RE2 has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

_KEPT: Final = 512
"""So many compiled expressions are kept: objects may bring their own."""
_GO_WORDS: Final = (
    # RE2's words for what is wrong, and those of Go's `regexp/syntax`; the longer of two that start alike is first.
    ("invalid escape sequence", "invalid escape sequence"),
    ("invalid character class range", "invalid character class range"),
    ("invalid character class", "invalid character class"),
    ("missing ]", "missing closing ]"),
    ("missing )", "missing closing )"),
    ("unexpected )", "unexpected )"),
    ("trailing \\", "trailing backslash at end of expression"),
    ("no argument for repetition operator", "missing argument to repetition operator"),
    ("invalid repetition size", "invalid repeat count"),
    ("bad repetition operator", "invalid nested repetition operator"),
    ("invalid perl operator", "invalid or unsupported Perl syntax"),
    ("invalid UTF-8", "invalid UTF-8"),
    ("invalid named capture group", "invalid named capture"),
)
_LOOK_BEHIND: Final = ("(?<=", "(?<!")
_ANY_BYTE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\C")


class RegexpError(Exception):
    """Not a regular expression; the message is Go's."""

    def __init__(self, problem: str, part: str) -> None:
        super().__init__(f"error parsing regexp: {problem}: `{part}`")


class Regexp:
    """A compiled regular expression."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def matches(self, text: str) -> bool:
        """Whether it matches anywhere in a text."""
        return self._compiled.search(_encoded(text)) is not None

    def found(self, text: str) -> Iterator[str]:
        """All that it matches, from left to right; nothing that is empty right behind another match."""
        end = -1
        for match in self._compiled.finditer(text):
            start, before = match.start(), end
            end = match.end()
            if start != end or start != before:
                yield match[0]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


@lru_cache(_KEPT)
def regexp(pattern: str) -> Regexp:
    """Raises RegexpError."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    if _ANY_BYTE.search(pattern):
        raise RegexpError("invalid escape sequence", r"\C")
    try:
        return Regexp(re2.compile(_encoded(pattern), options))
    except re2.error as error:
        raise _in_go_words(error.args[0].decode("utf-8", "replace"), pattern) from None


def _in_go_words(said: str, pattern: str) -> RegexpError:
    for words, go_words in _GO_WORDS:
        if said.startswith(words):
            part = said[len(words) :].removeprefix(": ")
            if part in _LOOK_BEHIND:  # which to Go look like names that are none
                rest = pattern[pattern.index(part) :]
                return RegexpError("invalid named capture", rest[: rest.find(">") + 1] if ">" in rest else rest)
            return RegexpError(go_words, part)
    return RegexpError("expression too large", pattern)
