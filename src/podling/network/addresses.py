"""The addresses of pods, from the node's pod CIDR.

An address that was released goes to the end of the queue: clients that still hold it in a cache, and connections
that the kernel still tracks, then meet nothing rather than a stranger.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network


class AddressesExhausted(RuntimeError):
    """Every address of the pod CIDR is taken."""

    def __init__(self, cidr: IPv4Network) -> None:
        super().__init__(f"no addresses left in the pod CIDR {cidr}")
        self.cidr = cidr


class PodAddresses:
    """Gives out the host addresses of `cidr` except `reserved` (the gateway), each to one holder (a pod's UID).

    Addresses never used come first, in order; then the one released longest ago. After a restart `restore` takes the
    addresses of the pods that still live, and giving out goes on behind the highest of them.
    """

    def __init__(self, cidr: str, reserved: Iterable[str] = ()) -> None:
        self._cidr = IPv4Network(cidr)
        self._reserved = {IPv4Address(ip) for ip in reserved}
        self._held: dict[str, IPv4Address] = {}
        self._used: set[IPv4Address] = set()
        self._released: deque[IPv4Address] = deque()
        self._next = self._cidr.network_address + 1

    def allocate(self, holder: str) -> str:
        """A free address, or the one that the holder has. Raises `AddressesExhausted`."""
        address = self._held.get(holder) or self._fresh() or self._oldest_released()
        if address is None:
            raise AddressesExhausted(self._cidr)
        self._hold(holder, address)
        return str(address)

    def release(self, holder: str) -> None:
        """Gives the holder's address back, if it has one."""
        address = self._held.pop(holder, None)
        if address is not None:
            self._used.remove(address)
            self._released.append(address)

    def restore(self, holder: str, ip: str) -> None:
        """Says that a running pod has this address, after a restart."""
        address = IPv4Address(ip)
        if address in self._cidr and address not in self._used:
            self._hold(holder, address)
            self._skip_to(address + 1)

    def _hold(self, holder: str, address: IPv4Address) -> None:
        self._held[holder] = address
        self._used.add(address)

    def _skip_to(self, address: IPv4Address) -> None:
        """Addresses below `address` that nobody uses count as released long ago."""
        while self._next < address:
            if self._available(self._next):
                self._released.append(self._next)
            self._next += 1

    def _available(self, address: IPv4Address) -> bool:
        return address not in self._reserved and address not in self._used

    def _fresh(self) -> IPv4Address | None:
        while self._next < self._cidr.broadcast_address:
            address = self._next
            self._next += 1
            if self._available(address):
                return address
        return None

    def _oldest_released(self) -> IPv4Address | None:
        while self._released:
            address = self._released.popleft()
            if self._available(address):
                return address
        return None
