"""Files of variables, which one container of a pod writes and another gets its environment from (KEP-3721).

    NAME='value'        # nothing stands between the name, the sign and the quote

What is between the quotes is the value, line breaks included. Empty lines and those that begin with `#` say nothing.
"""

from __future__ import annotations

import re

_ENTRY = re.compile(r"[ \t]*(?P<name>[^=\s]+)=(?:'(?P<value>[^']*)'[ \t]*(?:#[^\n]*)?|[ \t][^\n]*)(?:\n|\Z)")
"""With a blank after the sign the value is empty, as for a shell."""
_NOTHING = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")


def value_of(text: str, name: str) -> str:
    """Of the first variable with that name; `""` where there is none. Raises `ValueError` for what is no such file."""
    text = text.replace("\r\n", "\n")
    position = 0
    while position < len(text):
        entry = _ENTRY.match(text, position)
        if entry is not None and entry["name"] == name:
            return entry["value"] or ""
        passed = entry or _NOTHING.match(text, position)
        if passed is None:
            line = text.count("\n", 0, position) + 1
            raise ValueError(f"invalid environment variable format at line {line}")
        position = passed.end()
    return ""
