from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from podling.network.hostports import ANNOTATION, HostPorts, Port, candidates, wishes


def balancer(name: str = "web", *ports: int, kind: str = "LoadBalancer", node_port: int = 0) -> dict[str, Any]:
    listed = [{"port": port, "protocol": "TCP", **({"nodePort": node_port} if node_port else {})} for port in ports]
    metadata = {"namespace": "default", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    spec = {"type": kind, "clusterIP": "10.96.0.50", "clusterIPs": ["10.96.0.50"], "ports": listed or [{"port": 80}]}
    return {"metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}


class Proxy:
    """A host on which some ports are taken."""

    def __init__(self, taken: dict[int, int] | None = None) -> None:
        self.taken = taken or {}
        self.open: dict[int, tuple[str, int]] = {}

    async def open_port(self, port: int, ip: str, target: int) -> None:
        if port in self.taken:
            raise OSError(self.taken[port], os.strerror(self.taken[port]))
        self.open[port] = (ip, target)

    async def close_port(self, port: int) -> None:
        self.open.pop(port, None)

    async def ports(self) -> Sequence[int]:
        return sorted(self.open)


class Cluster:
    """Keeps the services and takes patches and events."""

    def __init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = {}
        self.events: list[str] = []
        self.patches = 0

    async def patch(
        self, resource: str, namespace: str, name: str, patch: dict[str, Any], *, subresource: str = ""
    ) -> dict[str, Any]:
        self.patches += 1
        service = self.services[name]
        if subresource:
            status = {k: v for k, v in patch["status"].items() if v is not None}
            self.services[name] = {**service, "status": status}
        else:
            before = service["metadata"].get("annotations", {})
            after = {k: v for k, v in {**before, **patch["metadata"]["annotations"]}.items() if v is not None}
            self.services[name] = {**service, "metadata": {**service["metadata"], "annotations": after}}
        return self.services[name]

    def record(self, regarding: dict[str, Any], type: str, reason: str, message: str, **_: str) -> None:
        self.events.append(f"{type} {reason}: {message}")


class Room:
    """Host ports with everything around them."""

    def __init__(self, memory: Path, taken: dict[int, int] | None = None) -> None:
        self.proxy = Proxy(taken)
        self.cluster = Cluster()
        self.memory = memory
        self.restart()

    def restart(self) -> None:
        self.ports = HostPorts(self.cluster, self.proxy, self.cluster.record, self.memory)  # type: ignore[arg-type]
        asyncio.run(self.ports.connected())

    def have(self, *services: dict[str, Any]) -> None:
        self.cluster.services = {service["metadata"]["name"]: service for service in services}
        asyncio.run(self.ports.sync(services))

    def again(self) -> None:
        asyncio.run(self.ports.sync(list(self.cluster.services.values())))

    def annotation(self, name: str = "web") -> Any:
        return json.loads(self.cluster.services[name]["metadata"]["annotations"][ANNOTATION])


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "host-ports.json"


def test_a_load_balancer_gets_its_own_port_when_it_is_free(memory: Path) -> None:
    room = Room(memory)
    room.have(balancer())
    assert room.proxy.open == {80: ("10.96.0.50", 80)}
    assert room.annotation() == {"80/TCP": 80}
    assert room.cluster.events == ["Normal HostPort: 127.0.0.1:80 on this machine leads to port 80"]


def test_its_address_and_ports_are_in_the_status(memory: Path) -> None:
    room = Room(memory)
    room.have(balancer())
    assert room.cluster.services["web"]["status"]["loadBalancer"]["ingress"] == [
        {"ip": "127.0.0.1", "ipMode": "Proxy", "ports": [{"port": 80, "protocol": "TCP"}]}
    ]


@pytest.mark.parametrize(
    ("error", "why"),
    [(errno.EACCES, "port 80 may not be bound by this user"), (errno.EADDRINUSE, "port 80 is in use on this machine")],
)
def test_without_it_the_port_eight_thousand_above_is_taken_and_the_reason_told(
    memory: Path, error: int, why: str
) -> None:
    room = Room(memory, taken={80: error})
    room.have(balancer())
    assert room.proxy.open == {8080: ("10.96.0.50", 80)}
    assert room.cluster.events == [f"Normal HostPort: 127.0.0.1:8080 on this machine leads to port 80 ({why})"]


def test_then_the_next_free_one(memory: Path) -> None:
    room = Room(memory, taken={80: errno.EACCES, 8080: errno.EADDRINUSE, 8081: errno.EADDRINUSE})
    room.have(balancer())
    assert room.annotation() == {"80/TCP": 8082}


def test_two_services_that_want_one_port_get_two(memory: Path) -> None:
    room = Room(memory)
    room.have(balancer("web"), balancer("shop"))
    assert (room.annotation("web"), room.annotation("shop")) == ({"80/TCP": 80}, {"80/TCP": 8080})


def test_a_choice_is_kept_over_a_restart_even_when_the_wanted_port_became_free(memory: Path) -> None:
    room = Room(memory, taken={80: errno.EADDRINUSE})
    room.have(balancer())
    room.proxy.taken.clear()
    room.restart()
    room.again()
    assert room.annotation() == {"80/TCP": 8080}
    assert set(room.proxy.open) == {8080}
    assert len(room.cluster.events) == 1


def test_nothing_is_written_when_nothing_changed(memory: Path) -> None:
    room = Room(memory)
    room.have(balancer())
    before = room.cluster.patches
    room.again()
    assert room.cluster.patches == before


def test_what_an_earlier_daemon_left_open_is_closed_when_nobody_wants_it(memory: Path) -> None:
    room = Room(memory)
    room.proxy.open = {9999: ("10.96.0.1", 1)}
    room.restart()
    room.have(balancer())
    assert set(room.proxy.open) == {80}


def test_a_service_that_is_no_load_balancer_any_more_loses_port_status_and_annotation(memory: Path) -> None:
    room = Room(memory)
    room.have(balancer())
    service = room.cluster.services["web"]
    room.have({**service, "spec": {**service["spec"], "type": "ClusterIP"}})
    assert room.proxy.open == {}
    assert room.cluster.services["web"]["metadata"]["annotations"] == {}
    assert room.cluster.services["web"]["status"] == {}


def test_node_ports_are_open_under_their_number_or_not_at_all(memory: Path) -> None:
    room = Room(memory, taken={30080: errno.EADDRINUSE})
    room.have(balancer("web", 80, kind="NodePort", node_port=30080))
    assert room.proxy.open == {}
    room.proxy.taken.clear()
    room.again()
    assert room.proxy.open == {30080: ("10.96.0.50", 80)}
    assert room.cluster.patches == 0


def test_a_balancer_of_another_class_is_left_to_others() -> None:
    service = balancer()
    service["spec"]["loadBalancerClass"] = "example.com/lb"
    assert wishes(service) == {}


def test_candidates_for_high_ports_stay_in_range() -> None:
    assert list(islice(candidates(Port("a/b", 60000), None), 3)) == [60000, 60001, 60002]
    assert max(candidates(Port("a/b", 65000), None)) <= 65535
    assert list(islice(candidates(Port("a/b", 80), 9000), 3)) == [9000, 80, 8080]


def test_a_cluster_that_does_not_balance_serves_node_ports_only() -> None:
    service = balancer("web", 80, node_port=30080)
    assert wishes(service, balances=False) == {Port("default/web", 30080, node_port=True): ("10.96.0.50", 80)}
