"""From the words of RUN, CMD and ENTRYPOINT to an argument vector: shell form, JSON form, here-documents."""

from __future__ import annotations

import re
import shlex

from podling.images.config import ImageConfig
from podling.images.dockerfile import Command, Run

_DEFAULT_SHELL = ("/bin/sh", "-c")


def command_arguments(action: Command, settings: ImageConfig) -> tuple[str, ...]:
    """The shell form is run by the stage's shell."""
    return (*(settings.shell or _DEFAULT_SHELL), *action.command) if action.shell and action.command else action.command


def run_arguments(action: Run, settings: ImageConfig) -> tuple[str, ...]:
    if not action.shell:
        return action.command
    shell = settings.shell or _DEFAULT_SHELL
    [script] = action.command
    if not action.documents:
        return (*shell, script)
    only = len(action.documents) == 1 and re.fullmatch(r"\d*<<-?(['\"]?)[A-Za-z_][\w.]*\1", script) is not None
    content = action.documents[0].content
    if only and not content.startswith("#!"):
        return (*shell, content)
    if only:
        # A script with its own interpreter: written to a file that is gone when it ends.
        wrapper = 'f=$(mktemp) && cat >"$f" && chmod 755 "$f" && "$f"; code=$?; rm -f "$f"; exit $code'
        return ("/bin/sh", "-c", f"printf %s {shlex.quote(content)} | {{ {wrapper}; }}")
    bodies = "".join(f"{document.content}{document.name}\n" for document in action.documents)
    return (*shell, f"{script}\n{bodies}")


def shown(action: Run) -> str:
    """The command as BuildKit names it in its error."""
    if not action.shell:
        return " ".join(action.command)
    return f"{' '.join(_DEFAULT_SHELL)} {action.command[0]}"
