"""A real node with the real proxy: a load balancer is used from the host while the daemon dies again and again.

`python -m support.network_whole SECONDS` prints what was seen as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from podling.network.layout import Layout
from podling.network.proxy import command
from podling.sandbox.boot import NodeConfig, start_node, stop_node
from podling.sandbox.services import Service
from support.network_node import ask


def _wait(path: Path) -> Any:
    deadline = time.monotonic() + 20
    while not path.exists():
        if time.monotonic() > deadline:
            logs = {log.name: log.read_text()[-2000:] for log in path.parent.glob("*.log")}
            raise TimeoutError(f"no {path.name}: {logs}")
        time.sleep(0.01)
    return json.loads(path.read_text())


def _load(port: int, until: float, answers: Counter[str]) -> None:
    while time.monotonic() < until:
        for address in ("127.0.0.1", "localhost"):
            try:
                answers[ask(address, port)] += 1
            except OSError as error:
                answers[repr(error)] += 1


def _use(run: Path, seconds: float) -> Any:
    seen = _wait(run / "daemon.json")
    port = seen["host ports"]["80/TCP"]
    before = len((run / "lives").read_text())
    answers: Counter[str] = Counter()
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=_load, args=(port, until, answers)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {**seen, "answers": answers, "lives": len((run / "lives").read_text()) - before}


def main(seconds: float) -> None:
    home = Path(tempfile.mkdtemp(prefix="podling-net-", dir="/tmp"))
    run = home / "run"
    run.mkdir()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ["PYTHONPATH"]}

    def service(name: str, argv: list[str]) -> Service:
        return {"name": name, "argv": argv, "env": env, "log": str(run / f"{name}.log")}

    stand_in = [sys.executable, "-m", "support.network_daemon"]
    services = [
        service("proxy", command(sys.executable, run, Layout())),
        service("pods", [*stand_in, "pods", str(run)]),
        service("daemon", [*stand_in, "daemon", str(run)]),
    ]
    config = NodeConfig(
        name=home.name, hostname="node", run_directory=str(run), cache_directory=str(home), services=services
    )
    try:
        start_node(config)
        seen = _use(run, seconds)
    finally:
        stop_node(str(run))
        subprocess.run(["chmod", "-R", "u+rwx", str(home)], check=True)  # overlay's work directories have no rights
        shutil.rmtree(home)
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main(float(sys.argv[1]))
