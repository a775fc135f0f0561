"""The namespaces of a node and of its pods.

A pod is three namespaces (network, IPC, UTS) held open by descriptors of the zygote: no pause process is needed. Its
link is a point-to-point pair: the pod has a /32 and reaches everything through the gateway address, which every node
end answers for. A bridge would let replies between pods bypass connection tracking, and services would time out.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from typing import NamedTuple

from podling.sandbox import netlink, syscalls
from podling.sandbox.spec import PodSpec

POD_INTERFACE = "eth0"

_POD_INDEX = 2
_KINDS = {"net": syscalls.CLONE_NEWNET, "ipc": syscalls.CLONE_NEWIPC, "uts": syscalls.CLONE_NEWUTS}


class Namespaces(NamedTuple):
    """Descriptors of the three namespaces that the containers of a pod share."""

    net: int
    ipc: int
    uts: int

    def close(self) -> None:
        for descriptor in self:
            os.close(descriptor)


def own_namespaces() -> Namespaces:
    """Descriptors of those that the calling process is in."""
    return Namespaces(*(os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in _KINDS))


def prepare_node(hostname: str) -> None:
    """Make the calling process's fresh network namespace a router with nothing behind it yet."""
    syscalls.sethostname(hostname)
    with netlink.Netlink() as connection:
        connection.transact([netlink.link_up(netlink.LOOPBACK_INDEX)])
    _set_sysctl("net.ipv4.ip_forward", "1")
    _allow_low_ports()


class PodNetworks:
    """Makes and removes the namespaces of pods. The calling process's own are those of the node."""

    def __init__(self, own: Namespaces) -> None:
        self._own = own
        self._netlink = netlink.Netlink()
        self._link_numbers = itertools.count(1)

    def create(self, spec: PodSpec, shared: Namespaces | None = None) -> Namespaces:
        """New namespaces with the pod's name and network, or the network of `shared`.

        Raises `OSError`; nothing is left then.
        """
        link = f"veth{next(self._link_numbers)}"
        flags = syscalls.CLONE_NEWUTS
        flags |= 0 if spec.get("host_ipc") else syscalls.CLONE_NEWIPC
        flags |= syscalls.CLONE_NEWNET if "ip" in spec else 0
        syscalls.unshare(flags)
        try:
            if shared is not None:
                syscalls.setns(shared.net)
            created = own_namespaces()
            try:
                syscalls.sethostname(spec["hostname"])
                if "ip" in spec:
                    self._connect(link, spec["ip"], spec.get("gateway"))
                for name, value in spec.get("sysctls", {}).items():
                    _set_sysctl(name, value)
            except BaseException:
                created.close()
                raise
        finally:
            for descriptor in self._own:
                syscalls.setns(descriptor)
        try:
            if "ip" in spec:
                self._route_to(link, spec["ip"], spec.get("gateway"))
        except BaseException:
            created.close()
            raise
        return created

    def remove(self, spec: PodSpec, namespaces: Namespaces) -> None:
        """Take the way to the pod away and let go of its namespaces.

        The kernel removes the link with the namespace, many at a time and in its own time; to remove it here would stop
        the zygote for some 30 ms per pod. Connecting to the address fails at once all the same: the route is gone.
        """
        if "ip" in spec:
            self._netlink.transact([netlink.delete_route(spec["ip"], 32, 0)], ignore=netlink.MISSING)
        namespaces.close()

    def socket_in(self, namespaces: Namespaces, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that belongs to the pod's network namespace, wherever it is used."""
        syscalls.setns(namespaces.net)
        try:
            return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        finally:
            syscalls.setns(self._own.net)

    def _connect(self, link: str, address: str, gateway: str | None) -> None:
        """In the pod's new network namespace: its end of the link, its address, its way out."""
        requests = [
            netlink.link_up(netlink.LOOPBACK_INDEX),
            netlink.create_veth(POD_INTERFACE, link, self._own.net, index=_POD_INDEX),
            netlink.add_address(_POD_INDEX, address),
            netlink.link_up(_POD_INDEX),
        ]
        if gateway:
            requests.append(netlink.replace_route(gateway, 32, _POD_INDEX))
            requests.append(netlink.replace_route("0.0.0.0", 0, _POD_INDEX, gateway=gateway))
        with netlink.Netlink() as connection:
            connection.transact(requests)
        _allow_low_ports()

    def _route_to(self, link: str, address: str, gateway: str | None) -> None:
        """In the node's: the gateway's address, and the way to the pod."""
        if gateway:
            self._netlink.transact([netlink.add_address(netlink.LOOPBACK_INDEX, gateway)], ignore=netlink.EXISTING)
        self._netlink.transact([netlink.link_up(link)])
        index = socket.if_nametoindex(link)
        self._netlink.transact([netlink.replace_route(address, 32, index, source=gateway)])


def _allow_low_ports() -> None:
    """Any user may listen on port 80 and may ping, as in a pod of a container runtime."""
    _set_sysctl("net.ipv4.ip_unprivileged_port_start", "0")
    for group_range in ("0 2147483647", "0 65535", "0 0"):
        with contextlib.suppress(OSError):  # only ids that this user namespace has are taken
            _set_sysctl("net.ipv4.ping_group_range", group_range)
            return


def _set_sysctl(name: str, value: str) -> None:
    syscalls.write_file(f"/proc/sys/{name.replace('.', '/')}", value)
