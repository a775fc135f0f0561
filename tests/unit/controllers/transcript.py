"""Transcripts: a command, `----`, and what came of it; then a blank line. A story that is also a test.

    deployment web replicas=2 image=a:1
    ----
    deployment web: create replicasets.apps web-... : no replica set has the present template

Run pytest with `PODLING_REWRITE=1` to write what happens now into the files, and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class Step:
    comments: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)


def parse(text: str) -> list[Step]:
    steps: list[Step] = []
    for block in text.split("\n\n"):
        lines = block.strip("\n").split("\n")
        step = Step()
        while lines and (lines[0].startswith("#") or not lines[0]):
            step.comments.append(lines.pop(0))
        if "----" in lines:
            at = lines.index("----")
            step.command, step.expected = lines[:at], lines[at + 1 :]
        else:
            step.command = lines
        if step.command or step.comments:
            steps.append(step)
    return steps


def render(steps: list[Step]) -> str:
    blocks = []
    for step in steps:
        lines = [*step.comments, *step.command]
        if step.command:
            lines += ["----", *step.expected]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


async def play(name: str, text: str, perform: Callable[[list[str]], Awaitable[list[str]]]) -> str | None:
    """Runs every command and compares; when rewriting, returns the transcript as it is now."""
    steps = parse(text)
    rewrite = bool(os.environ.get("PODLING_REWRITE"))
    for step in steps:
        if not step.command:
            continue
        happened = await perform(step.command)
        if rewrite:
            step.expected = happened
        else:
            assert happened == step.expected, f"{name}: {step.command[0]}"
    return render(steps) if rewrite else None
