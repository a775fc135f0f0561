"""`python -m support.node_host DIRECTORY SOURCE`: a node whose daemon tells stories, until its input ends.

`SOURCE` holds the packages `support` and `node_fakes`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from podling.sandbox.boot import NodeConfig, start_node, stop_node


def main(directory: Path, source: Path) -> None:
    for name in ("run", "cache"):
        (directory / name).mkdir()
    argv = [sys.executable, "-m", "support.node_stories", str(directory)]
    env = {"PYTHONPATH": str(source), "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    config = NodeConfig(
        name=directory.name,
        hostname="node1",
        run_directory=str(directory / "run"),
        cache_directory=str(directory / "cache"),
        services=[{"name": "story", "argv": argv, "env": env, "log": str(directory / "story.log")}],
    )
    handle = start_node(config)
    try:
        print(handle.tier, flush=True)
        sys.stdin.read()
    finally:
        stop_node(str(directory / "run"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
