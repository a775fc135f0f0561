"""A node's network namespace with pods in it, for tests: `python -m tests.support.network_node SCENARIO`.

A scenario is a function of `tests.support.network_scenarios`; what it returns is printed as JSON. Run as root it uses
real root; as another user it makes a user namespace with a single-uid map, as the rootless tier does.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from podling.network.node_links import prepare_node
from podling.network.layout import Layout
from podling.sandbox import netlink as nl
from podling.sandbox.syscalls import CLONE_NEWNET, CLONE_NEWUSER, setns, unshare, write_file

LAYOUT = Layout()


def enter_node(layout: Layout = LAYOUT) -> None:
    uid, gid = os.getuid(), os.getgid()
    unshare((CLONE_NEWUSER if uid else 0) | CLONE_NEWNET)
    if uid:
        write_file("/proc/self/setgroups", "deny")
        write_file("/proc/self/uid_map", f"0 {uid} 1")
        write_file("/proc/self/gid_map", f"0 {gid} 1")
    prepare_node(layout)


def child(work: Callable[[], None]) -> int:
    """A forked process that does `work` and dies with us."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    from podling.sandbox.syscalls import PR_SET_PDEATHSIG, prctl

    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    try:
        work()
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
    os.close(home)
    name = "p" + ip.replace(".", "")[-12:]
    with nl.Netlink() as outer:
        outer.transact([nl.create_veth(name, "eth0", namespace), nl.link_up(name)])
        index = next(link.number for link in nl.list_links(outer) if link.name == name)
        outer.transact([nl.replace_route(ip, 32, index, source=layout.gateway)])
    with inner:
        eth0 = next(link.number for link in nl.list_links(inner) if link.name == "eth0")
        inner.transact([nl.link_up(1), nl.link_up("eth0"), nl.add_address(eth0, ip)])
        inner.transact([nl.replace_route(layout.gateway, 32, eth0)])
        inner.transact([nl.replace_route("0.0.0.0", 0, eth0, gateway=layout.gateway)])
    return Pod(ip, namespace)


def serve_name(name: str, port: int) -> Callable[[], None]:
    """A TCP server that says its name to everybody and closes."""

    def work() -> None:
        with socket.create_server(("0.0.0.0", port), backlog=1024) as listener:
            while True:
                connection, _ = listener.accept()
                connection.sendall(name.encode())
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
    enter_node()
    scenarios = importlib.import_module("tests.support.network_scenarios")
    result = getattr(scenarios, sys.argv[1])(*sys.argv[2:])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
