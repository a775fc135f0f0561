"""Every transcript beside this file is played against the controllers that its first line names."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from commands import Commands
from stage import CAST
from transcript import play
from world import World

TRANSCRIPTS = sorted(Path(__file__).parent.glob("transcripts/*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda p: p.stem)
def test_the_controllers_act_as_the_transcript_tells(path: Path) -> None:
    asyncio.run(_play(path))


async def _play(path: Path) -> None:
    names = path.read_text().splitlines()[0].removeprefix("# controllers:").split()
    world = World([CAST[name]() for name in names])
    world.manager.start()
    await play(path, Commands(world))
    await world.manager.stop()
