"""What a command says while it works: a line for each step, which turns into a check mark.

On a terminal the line of the running step moves; elsewhere (a pipe, CI) each step is printed once when it ends.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.status import Status

CHECK, CROSS = "✓", "✗"


def counted(number: int, noun: str) -> str:
    """`1 pod`, `2 pods`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


class Step:
    """The running step; `detail` replaces the words behind its title."""

    def __init__(self, title: str, status: Status | None) -> None:
        self.title = title
        self.note = ""
        self._status = status

    def detail(self, words: str) -> None:
        self.note = words
        if self._status is not None:
            self._status.update(f"{self.title} [dim]{_plain(words)}[/dim]")


class Progress:
    """Steps on stderr, so that stdout stays for results."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and not quiet

    @contextlib.contextmanager
    def step(self, title: str) -> Generator[Step]:
        """Times what happens inside; an exception marks the step as failed and passes on."""
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            status = self._spinner(title, stack)
            step = Step(title, status)
            try:
                yield step
            except BaseException:
                stack.close()
                self._line(CROSS, "red", step, time.monotonic() - began)
                raise
        self._line(CHECK, "green", step, time.monotonic() - began)

    def say(self, words: str = "") -> None:
        if not self._quiet:
            click.echo(words, err=True)

    def _spinner(self, title: str, stack: contextlib.ExitStack) -> Status | None:
        if not self._live:
            return None
        from rich.console import Console  # 100 ms to import: only where a person looks on

        return stack.enter_context(Console(stderr=True).status(title))

    def _line(self, mark: str, color: str, step: Step, seconds: float) -> None:
        if self._quiet:
            return
        note = f" {step.note}" if step.note else ""
        timing = click.style(f"({seconds:.1f} s)", dim=True)
        click.echo(f"{click.style(mark, fg=color)} {step.title}{note} {timing}", err=True)


def _plain(words: str) -> str:
    """Rich reads brackets as markup."""
    return words.replace("[", r"\[")
