"""Starts a real node whose daemon tells the stories of `node_stories`, as root and as a user without any right."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podling.sandbox.boot import NodeConfig, start_node, stop_node

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 20.0


@dataclass(frozen=True)
class Stories:
    directory: Path

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
def stories() -> Generator[Stories]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pn") as name:
        directory = Path(name)
        (directory / "run").mkdir()
        (directory / "cache").mkdir()
        paths = [REPOSITORY / "src", REPOSITORY, REPOSITORY / "tests" / "unit" / "node"]
        argv = [sys.executable, "-m", "tests.support.node_stories", str(directory)]
        env = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
        config = NodeConfig(
            name=directory.name,
            hostname="node1",
            run_directory=str(directory / "run"),
            cache_directory=str(directory / "cache"),
            services=[{"name": "story", "argv": argv, "env": env, "log": str(directory / "story.log")}],
        )
        start_node(config)
        try:
            yield Stories(directory)
        finally:
            stop_node(str(directory / "run"))
