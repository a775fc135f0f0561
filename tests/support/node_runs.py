"""Starts a real node whose daemon tells the stories of `node_stories`, as any person, and asks it for them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.people import REPOSITORY, Person

PATIENCE = 20.0


@dataclass(frozen=True)
class Stories:
    directory: Path
    tier: str

    def __call__(self, story: str) -> Any:
        """What the story saw; its failure is an AssertionError with its traceback."""
        with self._connected() as connection:
            connection.sendall(f"{story}\n".encode())
            answer = json.loads(connection.makefile().readline() or '{"failed": "the daemon died"}')
        assert "failed" not in answer, answer["failed"]
        return answer["saw"]

    def _connected(self) -> socket.socket:
        """The daemon may just be starting."""
        deadline = time.monotonic() + PATIENCE
        while True:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(90)
            try:
                connection.connect(str(self.directory / "story.sock"))
            except OSError:
                connection.close()
                log = self.directory / "story.log"
                assert time.monotonic() < deadline, log.read_text() if log.exists() else "no daemon"
                time.sleep(0.02)
                continue
            return connection


@contextmanager
def stories(person: Person) -> Generator[Stories]:
    home = Path(tempfile.mkdtemp(prefix="pn", dir="/tmp"))
    home.chmod(0o755)
    try:
        source = home / "source"
        shutil.copytree(REPOSITORY / "tests" / "support", source / "support")
        shutil.copy(REPOSITORY / "tests" / "unit" / "node" / "node_fakes.py", source)
        directory = home / "n"
        directory.mkdir()
        person.own(home)
        python = person.bin / "python"
        host = person.start(
            *("env", f"PYTHONPATH={source}", python, "-m", "support.node_host", directory, source),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert host.stdout is not None
            tier = host.stdout.readline().strip()
            assert tier, "the node did not start"
            yield Stories(directory, tier)
        finally:
            host.communicate(timeout=30)
    finally:
        shutil.rmtree(home, ignore_errors=True)
