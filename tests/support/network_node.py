"""A node's network namespace with pods in it, for tests: `python -m support.network_node SCENARIO`.

A scenario is a function of `support.network_scenarios`; what it returns is printed as JSON. Run as root it uses
real root; as another user it makes a user namespace with a single-uid map, as the rootless tier does. The "host" is a
network namespace too, so nothing here touches the machine's own network.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from podling.network.layout import Layout
from podling.network.node_links import prepare_node
from podling.sandbox import netlink as nl
from podling.sandbox.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWUSER,
    PR_SET_PDEATHSIG,
    prctl,
    setns,
    unshare,
    write_file,
)

LAYOUT = Layout()


OUTSIDE = "198.51.100.7"
"""An address of the host, outside the cluster."""


class TestHost:
    """The namespace around the node; makes sockets there as the host helper does."""

    def __init__(self) -> None:
        self.namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.names = {"outside.example": [OUTSIDE]}
        with nl.Netlink() as netlink:
            netlink.transact([nl.link_up(1), nl.add_address(1, OUTSIDE)])

    @contextmanager
    def inside(self) -> Iterator[None]:
        node = os.open("/proc/self/ns/net", os.O_RDONLY)
        setns(self.namespace, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(node, CLONE_NEWNET)
            os.close(node)

    async def listen(self, ip: str, port: int) -> socket.socket:
        with self.inside():
            family = socket.AF_INET6 if ":" in ip else socket.AF_INET
            return socket.create_server((ip, port), family=family, backlog=4096)

    async def connect(self, ip: str, port: int) -> socket.socket:
        with self.inside():
            connection = socket.socket()
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (ip, port))
        except OSError:
            connection.close()
            raise
        return connection

    async def resolve(self, name: str) -> list[str]:
        return self.names.get(name, [])

    def run(self, work: Callable[[], None]) -> int:
        """A process on the host."""

        def inside() -> None:
            setns(self.namespace, CLONE_NEWNET)
            work()

        return child(inside)


def enter_host() -> TestHost:
    uid, gid = os.getuid(), os.getgid()
    unshare((CLONE_NEWUSER if uid else 0) | CLONE_NEWNET)
    if uid:
        write_file("/proc/self/setgroups", "deny")
        write_file("/proc/self/uid_map", f"0 {uid} 1")
        write_file("/proc/self/gid_map", f"0 {gid} 1")
    return TestHost()


def enter_node(layout: Layout = LAYOUT) -> None:
    unshare(CLONE_NEWNET)
    prepare_node(layout)


def child(work: Callable[[], None]) -> int:
    """A forked process that does `work` and dies with us."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    try:
        work()
    except BaseException:  # noqa: BLE001  whatever it was, the test shall see it
        traceback.print_exc()
    finally:
        os._exit(0)


@dataclass
class Pod:
    """A network namespace on a point-to-point link, and the processes in it."""

    ip: str
    namespace: int
    pids: list[int] = field(default_factory=list[int])

    def run(self, work: Callable[[], None]) -> int:
        def inside() -> None:
            setns(self.namespace, CLONE_NEWNET)
            work()

        pid = child(inside)
        self.pids.append(pid)
        return pid

    def kill(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.pids.clear()


def make_pod(ip: str, layout: Layout = LAYOUT) -> Pod:
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    unshare(CLONE_NEWNET)
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
    inner = nl.Netlink()
    setns(home, CLONE_NEWNET)
    name = "p" + ip.replace(".", "")[-12:]
    with nl.Netlink() as outer:
        outer.transact([nl.create_veth(name, "eth0", namespace), nl.link_up(name)])
        outer.transact([nl.replace_route(ip, 32, socket.if_nametoindex(name), source=layout.gateway)])
    setns(namespace, CLONE_NEWNET)
    eth0 = socket.if_nametoindex("eth0")
    setns(home, CLONE_NEWNET)
    os.close(home)
    with inner:
        inner.transact([nl.link_up(1), nl.link_up("eth0"), nl.add_address(eth0, ip)])
        inner.transact([nl.replace_route(layout.gateway, 32, eth0)])
        inner.transact([nl.replace_route("0.0.0.0", 0, eth0, gateway=layout.gateway)])
    return Pod(ip, namespace)


def serve_name(name: str, *ports: int) -> Callable[[], None]:
    """A TCP server that says its name (and port, if it has several) to everybody and closes."""

    def work() -> None:
        listeners = {socket.create_server(("0.0.0.0", port), backlog=1024): port for port in ports}
        while True:
            for listener in select.select(listeners, [], [])[0]:
                connection, _ = listener.accept()
                said = name if len(ports) == 1 else f"{name}:{listeners[listener]}"
                connection.sendall(said.encode())
                connection.close()

    return work


def serve_datagrams(name: str, port: int) -> Callable[[], None]:
    """A UDP server that answers every datagram by its name."""

    def work() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("0.0.0.0", port))
            while True:
                _, peer = server.recvfrom(2048)
                server.sendto(name.encode(), peer)

    return work


def ask(ip: str, port: int, timeout: float = 5.0) -> str:
    """One connection; the name that was said. Raises OSError."""
    with socket.create_connection((ip, port), timeout=timeout) as connection:
        said = b""
        while piece := connection.recv(4096):
            said += piece
        return said.decode()


def wait_served(ip: str, port: int) -> None:
    for _ in range(2000):
        try:
            ask(ip, port)
        except OSError:
            continue
        return
    raise TimeoutError(f"{ip}:{port} does not answer")


@contextmanager
def pods(*ips: str) -> Iterator[list[Pod]]:
    made = [make_pod(ip) for ip in ips]
    try:
        yield made
    finally:
        for pod in made:
            pod.kill()


def main() -> None:
    host = enter_host()
    enter_node()
    scenarios = importlib.import_module("support.network_scenarios")
    result = getattr(scenarios, sys.argv[1])(host, *sys.argv[2:])
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
