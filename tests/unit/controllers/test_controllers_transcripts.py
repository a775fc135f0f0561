"""Every transcript beside this file is played against the controllers that its first line names."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from commands import Commands
from meter import Meter
from stage import SERVED, admission, cast
from transcript import play
from world import World

TRANSCRIPTS = sorted(Path(__file__).parent.glob("transcripts/*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda p: p.stem)
def test_the_controllers_act_as_the_transcript_tells(path: Path) -> None:
    asyncio.run(_play(path, path.read_text()))


async def _play(path: Path, text: str) -> None:
    names = text.splitlines()[0].removeprefix("# controllers:").split()
    meter = Meter()
    controllers = cast((name for name in names if name != "scheduler"), meter)
    world = World(controllers, SERVED, scheduling="scheduler" in names)
    world.cluster.mutations.append(admission(world.cluster))
    world.start()
    rewritten = await play(path.name, text, Commands(world, meter))
    await world.stop()
    if rewritten is not None:
        path.write_text(rewritten)  # noqa: ASYNC240  nothing else runs
