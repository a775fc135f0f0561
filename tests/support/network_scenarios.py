"""What happens in the test's own node: each function is one scenario, run by `support.network_node`."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from podling.network.controller import ServiceProxy
from podling.network.proxy import Proxy
from podling.network.services import DataPlane, ServiceKey, ServicePort
from podling.network.slots import Backend
from podling.network.tables import Front
from support.network_cluster import MemoryCluster
from support.network_daemon import ask_dns
from support.network_node import (
    LAYOUT,
    OUTSIDE,
    TestHost,
    ask,
    child,
    pods,
    serve_datagrams,
    serve_name,
    wait_served,
)

SERVICE = "10.96.7.7"

Run = Callable[[Callable[[], None]], int]


def service(*backends: str, protocol: str = "TCP", port: int = 80, **more: Any) -> dict[ServiceKey, ServicePort]:
    """A service port with backends `ip` (port 5000) or `ip:port`."""
    found = tuple(Backend(ip, int(number or 5000)) for ip, _, number in (text.partition(":") for text in backends))
    return {ServiceKey(protocol, SERVICE, port): ServicePort(protocol, SERVICE, port, found, **more)}


def in_process(work: Callable[[], Any], run: Run = child) -> Callable[[], Any]:
    """Starts `work` in a process of its own; the returned function waits for its result."""
    reading, writing = os.pipe()

    def body() -> None:
        os.write(writing, json.dumps(work()).encode())

    run(body)
    os.close(writing)

    def result() -> Any:
        with os.fdopen(reading, "rb") as pipe:
            return json.loads(pipe.read())

    return result


class Clients:
    """Processes that connect in a loop until told to stop; used as a context."""

    def __init__(self, ip: str, port: int, *runs: Run) -> None:
        self._stop = Path(tempfile.mkdtemp(), "stop")
        self._results = [in_process(lambda: self._connect(ip, port), run) for run in runs]
        self.answers: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def _connect(self, ip: str, port: int) -> Any:
        answers: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        while not self._stop.exists():
            try:
                answers[ask(ip, port) or "nothing"] += 1
            except OSError as error:
                refused[repr(error)] += 1
        return answers, refused

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.touch()
        for result in self._results:
            answers, refused = result()
            self.answers.update(answers)
            self.refused.update(refused)
        self._stop.unlink()
        self._stop.parent.rmdir()

    def report(self, **more: Any) -> Any:
        return {"answered": self.answers.total(), "backends": len(self.answers), "refused": dict(self.refused), **more}


def plane(**layout: Any) -> DataPlane:
    made = DataPlane(replace(LAYOUT, **layout))
    made.load()
    return made


def endpoints_change(_: TestHost, updates: str = "1500", source: str = "node", most: str = "4") -> Any:
    """Endpoints change all the time while clients connect in a loop."""
    ips = [f"10.244.0.{n}" for n in range(10, 10 + int(most))]
    dice = random.Random(7)
    with pods(*ips, "10.244.0.200") as made:
        for pod in made[:-1]:
            pod.run(serve_name(pod.ip, 5000))
            wait_served(pod.ip, 5000)
        kernel = plane()
        kernel.apply(service(*ips))
        run = child if source == "node" else made[-1].run
        spent: list[float] = []
        with Clients(SERVICE, 80, run, run) as clients:
            began = time.monotonic()
            for _step in range(int(updates)):
                chosen = dice.sample(ips, dice.randint(1, len(ips)))
                before = time.monotonic()
                kernel.apply(service(*chosen))
                spent.append(time.monotonic() - before)
                kernel.collect()
                time.sleep(0.001)
            seconds = time.monotonic() - began
    median = sorted(spent)[len(spent) // 2] * 1000
    return clients.report(updates_per_second=round(int(updates) / seconds), median_ms=round(median, 3))


def endpoints_grow(_: TestHost, rounds: str = "60") -> Any:
    """The number of endpoints goes up and down across the sizes of the map while clients connect."""
    ips = [f"10.244.0.{n}" for n in range(10, 14)]
    every = [f"{ip}:{port}" for port in range(5000, 5020) for ip in ips]
    dice = random.Random(3)
    with pods(*ips) as made:
        for pod in made:
            pod.run(serve_name(pod.ip, *range(5000, 5020)))
            wait_served(pod.ip, 5019)
        now = [0.0]
        kernel = DataPlane(LAYOUT, clock=lambda: now[0])
        kernel.load()
        sizes: Counter[int] = Counter()
        kernel.apply(service(*every[:1]))
        with Clients(SERVICE, 80, child, child) as clients:
            for step in range(int(rounds)):
                # Another affinity is another chain too, so every second step replaces it.
                affinity = 60 if step % 2 else 0
                kernel.apply(service(*every[: dice.choice([1, 5, 20, 61, 80])], affinity_seconds=affinity))
                sizes.update(chain.size for chain in kernel.tables.fronts.values())
                time.sleep(0.01)
                now[0] += 1
                kernel.collect()
    return clients.report(sizes=sorted(sizes), chains=len(kernel.tables.slots))


def daemon_restarts(host: TestHost, restarts: str = "40") -> Any:
    """The daemon is replaced again and again, each time with other endpoints, while clients connect."""
    del host
    ips = [f"10.244.0.{n}" for n in range(10, 14)]
    with pods(*ips, "10.244.0.200") as made:
        for pod in made[:-1]:
            pod.run(serve_name(pod.ip, 5000))
            wait_served(pod.ip, 5000)
        plane().apply(service(*ips, node_port=30080))
        with Clients(SERVICE, 80, child, made[-1].run) as clients:
            for step in range(int(restarts)):
                kernel = plane()
                kernel.apply(service(*ips[: 1 + step % 4], node_port=30080))
                kernel.close()
                time.sleep(0.005)
        unchanged = plane().apply(service(*ips[: 1 + (int(restarts) - 1) % 4], node_port=30080))
    return clients.report(changed_by_last=unchanged)


def upgrade(_: TestHost, upgrades: str = "40") -> Any:
    """A daemon with another fixed part replaces the whole table, keeping the services, while clients connect."""
    ips = [f"10.244.0.{n}" for n in range(10, 14)]
    with pods(*ips) as made:
        for pod in made:
            pod.run(serve_name(pod.ip, 5000))
            wait_served(pod.ip, 5000)
        plane().apply(service(*ips))
        with Clients(SERVICE, 80, child, child) as clients:
            for step in range(int(upgrades)):
                plane(egress_port=15002 + step % 2).close()
                time.sleep(0.02)
    return clients.report()


def says(ip: str, port: int) -> str:
    try:
        return ask(ip, port, timeout=2)
    except OSError as error:
        return type(error).__name__


def features(_: TestHost) -> Any:
    """One of each: what a service does besides balancing."""
    ips = ["10.244.0.10", "10.244.0.11"]
    results: dict[str, Any] = {}
    with pods(*ips) as (first, second):
        for pod in (first, second):
            pod.run(serve_name(pod.ip, 5000))
            wait_served(pod.ip, 5000)
        kernel = plane()
        kernel.apply(service(*ips, node_port=30080, external_ips=("203.0.113.5",)))
        kernel.attach(second.ip)
        inside = {"node": child, "pod": second.run}
        for name, run in inside.items():
            results[f"node port from {name}"] = in_process(lambda: says("10.244.0.1", 30080), run)()
            results[f"external ip from {name}"] = in_process(lambda: says("203.0.113.5", 80), run)()
            results[f"unknown service from {name}"] = in_process(lambda: says("10.96.9.9", 80), run)()
            results[f"unknown port from {name}"] = in_process(lambda: says(SERVICE, 81), run)()
            results[f"gone pod from {name}"] = in_process(lambda: says("10.244.0.99", 80), run)()
        kernel.apply(service(first.ip))
        results["hairpin before attach"] = in_process(lambda: says(SERVICE, 80), first.run)()
        kernel.attach(first.ip)
        results["hairpin"] = in_process(lambda: says(SERVICE, 80), first.run)()
        kernel.apply(service(external_ips=("203.0.113.5",), node_port=30080))
        for name, run in inside.items():
            results[f"no endpoints from {name}"] = in_process(lambda: says(SERVICE, 80), run)()
            results[f"external ip without endpoints from {name}"] = in_process(lambda: says("203.0.113.5", 80), run)()
            results[f"node port without endpoints from {name}"] = in_process(lambda: says("10.244.0.1", 30080), run)()
        kernel.apply({})
        results["tables"] = [len(kernel.tables.fronts), len(kernel.tables.unserved)]
    return results


def host_ports_and_cuts(_: TestHost) -> Any:
    """Ports of a node that lead to one pod, and a node that is cut off, also after an upgrade of the tables."""
    results: dict[str, Any] = {}
    with pods("10.244.0.10", "10.244.1.10") as (near, far):
        for pod in (near, far):
            pod.run(serve_name(pod.ip, 5000))
            wait_served(pod.ip, 5000)
        plane().attach(near.ip, {Front("TCP", "10.244.0.1", 8080): Backend(near.ip, 5000)})
        kernel = plane(egress_port=15002)
        for name, run in {"node": child, "pod": far.run}.items():
            results[f"host port from {name}"] = in_process(lambda: says("10.244.0.1", 8080), run)()
        results["the same port of another node"] = in_process(lambda: says("10.244.1.1", 8080), far.run)()
        kernel.cut_off(["10.244.1.0/24"])
        results["a node that is cut off"] = says(far.ip, 5000)
        results["another node meanwhile"] = says(near.ip, 5000)
        kernel.cut_off([])
        results["a node that is back"] = says(far.ip, 5000)
        kernel.detach(near.ip)
        results["host port of a pod that is gone"] = says("10.244.0.1", 8080)
    return results


def affinity(_: TestHost) -> Any:
    """A sticky client keeps its backend when endpoints come, and gets another one when its own goes."""
    ips = [f"10.244.0.{n}" for n in range(10, 14)]
    with pods(*ips) as made:
        for pod in made:
            pod.run(serve_name(pod.ip, 5000))
            wait_served(pod.ip, 5000)
        kernel = plane()
        sticky: dict[str, Any] = {"affinity_seconds": 60}
        kernel.apply(service(*ips[:1], **sticky))
        chosen = says(SERVICE, 80)
        kernel.apply(service(*ips, **sticky))
        kept = {says(SERVICE, 80) for _ in range(50)}
        left = [ip for ip in ips if ip != chosen]
        kernel.apply(service(*left, **sticky))
        moved = {says(SERVICE, 80) for _ in range(50)}
        reloaded = plane()
        unchanged = not reloaded.apply(service(*left, **sticky))
        still = {says(SERVICE, 80) for _ in range(50)}
        kernel.apply(service(*left, affinity_seconds=1))
        time.sleep(1.5)
    return {"kept": kept == {chosen}, "moved": chosen not in moved and moved == still, "unchanged": unchanged}


def datagrams(_: TestHost) -> Any:
    """A UDP client with one socket is led to another backend as soon as its own is taken out."""
    ips = ["10.244.0.10", "10.244.0.11"]
    with pods(*ips) as made:
        for pod in made:
            pod.run(serve_datagrams(pod.ip, 5000))
        time.sleep(0.2)
        kernel = plane()
        kernel.apply(service(*ips, protocol="UDP", port=53))
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect((SERVICE, 53))

        def exchange() -> str:
            try:
                client.send(b"?")
                return client.recv(100).decode() if select.select([client], [], [], 1)[0] else "silence"
            except OSError as error:
                return type(error).__name__

        before = {exchange() for _ in range(20)}
        [first] = before
        [other] = [ip for ip in ips if ip != first]
        kernel.apply(service(other, protocol="UDP", port=53))
        after = {exchange() for _ in range(20)}
        kernel.apply(service(protocol="UDP", port=53))
        last = exchange(), exchange()
    return {"sticks": len(before) == 1, "moved": after == {other}, "no endpoints": last}


def many_services(_: TestHost, count: str = "1000") -> Any:
    """How long it takes to make many services, to change one of them, and to take them over."""
    ports = {}
    for n in range(int(count)):
        ip = f"10.96.{1 + n // 250}.{1 + n % 250}"
        backends = tuple(Backend(f"10.244.0.{2 + (n + i) % 250}", 80) for i in range(3))
        ports[ServiceKey("TCP", ip, 80)] = ServicePort("TCP", ip, 80, backends)
    kernel = plane()
    times: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        before = time.monotonic()
        result = work()
        times[name] = round((time.monotonic() - before) * 1000, 2)
        return result

    timed("create", lambda: kernel.apply(ports))
    key = next(iter(ports))
    fewer = {**ports, key: replace(ports[key], backends=ports[key].backends[:2])}
    timed("change one", lambda: kernel.apply(fewer))
    timed("change nothing", lambda: kernel.apply(dict(fewer)))
    other = timed("load", plane)
    changed = timed("take over", lambda: other.apply(fewer))
    return {**times, "changed": changed}


def host_port(host: TestHost, updates: str = "800") -> Any:
    """The host's port leads to a service whose endpoints change, while clients on the host connect."""
    ips = [f"10.244.0.{n}" for n in range(10, 14)]
    dice = random.Random(5)

    async def work() -> Any:
        with tempfile.TemporaryDirectory() as directory:
            proxy = Proxy(LAYOUT, host, Path(directory, "memory"))
            await proxy.start()
            kernel = plane()
            kernel.apply(service(*ips))
            await proxy.handle({"do": "open-port", "port": 8080, "ip": SERVICE, "target": 80})
            clients = Clients("127.0.0.1", 8080, host.run, host.run)
            began = time.monotonic()
            for _ in range(int(updates)):
                kernel.apply(service(*dice.sample(ips, dice.randint(1, 4))))
                await asyncio.sleep(0.003)
            seconds = time.monotonic() - began
            await asyncio.to_thread(clients.__exit__)
            await proxy.stop()
            return clients.report(connections_per_second=round(clients.answers.total() / seconds))

    with pods(*ips) as made:
        for pod in made:
            pod.run(serve_name(pod.ip, 5000))
            wait_served(pod.ip, 5000)
        return asyncio.run(work())


def proxy_returns(host: TestHost) -> Any:
    """A proxy that is started anew, while no daemon lives, serves what the last one was told."""

    async def work() -> Any:
        with tempfile.TemporaryDirectory() as directory:
            memory = Path(directory, "memory")
            plane().apply(service("10.244.0.10"))
            first = Proxy(LAYOUT, host, memory)
            await first.start()
            await first.handle({"do": "open-port", "port": 8080, "ip": SERVICE, "target": 80})
            refused = await first.handle({"do": "open-port", "port": 53, "ip": SERVICE, "target": 80})
            names = {"ips": [SERVICE], "ports": [], "groups": []}
            await first.handle({"do": "set-names", "services": {"default/web": names}, "namespaces": ["default"]})
            await first.stop()
            closed = await asyncio.to_thread(in_process(lambda: says("127.0.0.1", 8080), host.run))
            second = Proxy(LAYOUT, host, memory)
            await second.start()
            answer = await asyncio.to_thread(in_process(lambda: says("127.0.0.1", 8080), host.run))
            name = await asyncio.to_thread(in_process(lambda: ask_dns("web.default.svc.cluster.local")))
            await second.stop()
            return {"closed": closed, "answer": answer, "name": name, "refused": refused}

    with pods("10.244.0.10") as [pod]:
        pod.run(serve_name(pod.ip, 5000))
        wait_served(pod.ip, 5000)
        with host.inside():
            taken = socket.create_server(("127.0.0.1", 53))
        with taken:
            return asyncio.run(work())


def withdrawal(_: TestHost) -> Any:
    """What pods' coming and going does to the backends in the kernel, step by step."""
    objects = MemoryCluster()
    objects.namespace("default")
    for name, ip in (("a", "10.244.0.10"), ("b", "10.244.0.11")):
        objects.pod(name, ip)
    objects.service("web", SERVICE)
    objects.endpoints("web", a=True, b=True)

    async def work(directory: str) -> Any:
        proxy = ServiceProxy(
            objects,  # type: ignore[arg-type]
            layout=LAYOUT,
            record=objects.record,
            run_directory=Path(directory),
            state_directory=Path(directory),
        )
        await proxy.start()
        seen: dict[str, list[str]] = {}

        def note(step: str) -> None:
            other = plane()
            seen[step] = sorted({slot.ip[-1] for slots in other.tables.slots.values() for slot in slots})
            if not other.tables.fronts:
                seen[step] = ["nobody"]
            other.close()

        note("both ready")
        await proxy.withdraw("10.244.0.10")
        note("one withdrawn")
        objects.endpoints("web", a=True)
        await asyncio.sleep(0)
        note("the last one withdrawn")
        objects.endpoints("web", a=True, b=True)
        await asyncio.sleep(0)
        note("another ready again")
        await proxy.admit("10.244.0.10")
        note("admitted")
        objects.pod("b", "10.244.0.11", deletionTimestamp="2026-01-01T00:00:00Z")
        await asyncio.sleep(0)
        note("deletion began")
        objects.remove("pods", "default", "b")
        objects.remove("pods", "default", "a")
        await asyncio.sleep(0)
        note("both gone")
        await proxy.attach("10.244.0.11")
        objects.pod("c", "10.244.0.11")
        objects.endpoints("web", c=True)
        await asyncio.sleep(0)
        note("a new pod at an old address")
        for old, new in (("web", "shop"), ("shop", "other"), ("other", "last")):
            objects.remove("services", "default", old)
            objects.service(new, SERVICE)
            objects.endpoints(new, c=True)
            await asyncio.sleep(0)
        note("another service at an old address")
        await proxy.stop()
        return seen

    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(work(directory))


def _echo(port: int) -> Callable[[], None]:
    """A server that gives back what it gets, for many connections at once."""

    def work() -> None:
        listener = socket.create_server(("0.0.0.0", port), backlog=256)
        poll = select.epoll()
        poll.register(listener, select.EPOLLIN)
        open_: dict[int, socket.socket] = {}
        while True:
            for number, _ in poll.poll():
                if number == listener.fileno():
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    open_[connection.fileno()] = connection
                    poll.register(connection, select.EPOLLIN)
                else:
                    try:
                        open_[number].sendall(open_[number].recv(1 << 16) or b"!")
                    except OSError:
                        open_.pop(number).close()

    return work


def _round_trips(ip: str, port: int, connections: int, seconds: float) -> float:
    """Round trips of 200 bytes in a second over so many kept connections."""
    poll = select.epoll()
    made = {}
    for _ in range(connections):
        connection = socket.create_connection((ip, port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
        connection.send(b"x" * 200)
    count, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        for number, _ in poll.poll():
            made[number].recv(4096)
            made[number].send(b"x" * 200)
            count += 1
    return count / (time.monotonic() - began)


def round_trips(host: TestHost, seconds: str = "1", rounds: str = "5") -> Any:
    """Kept connections: straight to the pod, through the kernel's service, and through the host's port."""
    with pods("10.244.0.10") as [pod]:
        pod.run(_echo(5000))
        plane().apply(service("10.244.0.10"))
        time.sleep(0.3)

        def proxying() -> None:
            async def work() -> None:
                with tempfile.TemporaryDirectory() as directory:
                    proxy = Proxy(LAYOUT, host, Path(directory, "memory"))
                    await proxy.start()
                    await proxy.handle({"do": "open-port", "port": 8080, "ip": SERVICE, "target": 80})
                    await asyncio.sleep(3600)

            asyncio.run(work())

        child(proxying)
        time.sleep(0.5)
        rates: dict[str, list[float]] = {"direct": [], "service": [], "host port": []}
        targets = {"direct": ("10.244.0.10", 5000), "service": (SERVICE, 80), "host port": ("127.0.0.1", 8080)}
        for connections in (16, 1):
            for _ in range(int(rounds)):
                for name, (ip, port) in targets.items():
                    run = host.run if name == "host port" else child
                    work = in_process(lambda: _round_trips(ip, port, connections, float(seconds)), run)  # noqa: B023
                    rates.setdefault(f"{name} c{connections}", []).append(work())
    return {name: round(sorted(found)[len(found) // 2]) for name, found in rates.items() if found}


def way_out(host: TestHost) -> Any:
    """Pods reach the outside over TCP, and are told at once where there is nothing."""
    host.run(serve_name("outside", 7000))

    async def work() -> Any:
        with tempfile.TemporaryDirectory() as directory:
            proxy = Proxy(LAYOUT, host, Path(directory, "memory"))
            await proxy.start()
            with pods("10.244.0.10") as [pod]:
                plane()

                def client() -> Any:
                    return [says(OUTSIDE, 7000), says(OUTSIDE, 7001), says("10.244.0.1", LAYOUT.egress_port)]

                def datagram() -> Any:
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                        out.settimeout(2)
                        out.connect((OUTSIDE, 7000))
                        try:
                            out.send(b"?")
                            return out.recv(10).decode()
                        except OSError as error:
                            return type(error).__name__

                results = {
                    "pod": await asyncio.to_thread(in_process(client, pod.run)),
                    "node": await asyncio.to_thread(in_process(client)),
                    "udp": await asyncio.to_thread(in_process(datagram, pod.run)),
                }
            await proxy.stop()
            return results

    return asyncio.run(work())
