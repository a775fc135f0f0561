"""What happens in the test's own node: each function is one scenario, run by `tests.support.network_node`."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

from podling.network.services import DataPlane, ServiceKey, ServicePort
from podling.network.slots import Backend
from tests.support.network_node import LAYOUT, ask, child, pods, serve_name, wait_served

SERVICE = "10.96.7.7"


def service(*ips: str, port: int = 80, **more: object) -> dict[ServiceKey, ServicePort]:
    backends = tuple(Backend(ip, 5000) for ip in ips)
    made = ServicePort("TCP", SERVICE, port, backends, **more)  # type: ignore[arg-type]
    return {ServiceKey("TCP", SERVICE, port): made}


def in_process(work: Callable[[], object], run: Callable[[Callable[[], None]], int] = child) -> Callable[[], object]:
    """Starts `work` in a process of its own; the returned function stops nothing, it waits for the result."""
    reading, writing = os.pipe()

    def body() -> None:
        os.write(writing, json.dumps(work()).encode())

    pid = run(body)
    os.close(writing)

    def result() -> object:
        with os.fdopen(reading, "rb") as pipe:
            data = pipe.read()
        if run is child:
            os.waitpid(pid, 0)
        return json.loads(data)

    return result


def connect_until(stop: str, ip: str = SERVICE, port: int = 80) -> Callable[[], object]:
    """Connects in a loop until the file `stop` exists."""

    def work() -> object:
        answers: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        while not os.path.exists(stop):
            try:
                answers[ask(ip, port)] += 1
            except OSError as error:
                refused[repr(error)] += 1
        return {"answers": answers, "refused": refused}

    return work


def churn(updates: str = "1500", source: str = "node", most: str = "4") -> object:
    """Endpoints change all the time while clients connect in a loop."""
    ips = [f"10.244.0.{n}" for n in range(10, 10 + int(most))]
    stop = f"/tmp/podling-test-{os.getpid()}.stop"
    dice = random.Random(7)
    with pods(*ips, "10.244.0.200") as made:
        for pod in made[:-1]:
            pod.run(serve_name(pod.ip, 5000))
        plane = DataPlane(LAYOUT)
        plane.load()
        plane.apply(service(*ips))
        for ip in ips:
            wait_served(ip, 5000)
        run = child if source == "node" else made[-1].run
        clients = [in_process(connect_until(stop), run) for _ in range(2)]
        began = time.monotonic()
        spent = 0.0
        for _ in range(int(updates)):
            chosen = dice.sample(ips, dice.randint(1, len(ips)))
            before = time.monotonic()
            plane.apply(service(*chosen))
            spent += time.monotonic() - before
            plane.collect()
            time.sleep(0.002)
        seconds = time.monotonic() - began
        open(stop, "w").close()
        results = [client() for client in clients]
        os.unlink(stop)
    return {"results": results, "seconds": seconds, "update_ms": spent / int(updates) * 1000}
