"""What a node tells of itself, and when."""

from __future__ import annotations

from typing import Any

from node_fakes import FakeClient, FakeRecorder, now, run_virtually, until

from podling.api import meta
from podling.node.node_status import Machine, NodeReporter, NodeSettings, allocatable, capacity

MIB = 2**20
MACHINE = Machine(
    cpus=2,
    memory=4096 * MIB,
    disk=1000 * MIB,
    architecture="amd64",
    kernel="6.1",
    os_image="Linux",
    machine_id="1",
    boot_id="2",
)


def reporter(client: Any, name: str = "one") -> NodeReporter:
    settings = NodeSettings(
        name=name, ip="10.244.1.1", pod_cidr="10.244.1.0/24", version="v1.36.2", runtime="podling://1"
    )
    return NodeReporter(client, FakeRecorder(), settings, MACHINE, lambda: capacity(MACHINE), list, now)


def test_nodes_share_the_machine_equally() -> None:
    alone, third = capacity(MACHINE), capacity(MACHINE, 3)
    assert (alone["cpu"], alone["memory"], alone["ephemeral-storage"]) == ("2", "4194304Ki", "1024000Ki")
    assert (third["cpu"], third["memory"], third["ephemeral-storage"]) == ("666m", "1398101Ki", "341333Ki")
    assert third["pods"] == "110"


def test_a_capacity_that_was_given_is_believed() -> None:
    given = capacity(MACHINE, 3, {"cpu": "8", "memory": "1Gi", "example.com/gpu": "1"})
    assert (given["cpu"], given["example.com/gpu"], given["ephemeral-storage"]) == ("8", "1", "341333Ki")
    for_pods = allocatable(given)
    assert (for_pods["memory"], for_pods["cpu"]) == (f"{(1024 - 100) * 1024}Ki", "8")


def test_a_node_that_was_deleted_stays_so_until_it_is_registered_anew() -> None:
    async def story() -> None:
        client = FakeClient()
        node = reporter(client)
        await node.start()
        client.drop("nodes", "", "one")
        await node.report()
        assert client.get("nodes", "", "one") is None
        await node.register()
        assert meta.condition_is(client.get("nodes", "", "one"), "Ready")
        await node.stop()

    run_virtually(story)


def test_a_node_that_was_given_up_says_that_it_lives() -> None:
    async def story() -> None:
        client = FakeClient()
        node = reporter(client)
        await node.start()
        found = client.get("nodes", "", "one")
        assert found is not None
        unknown = [{**condition, "status": "Unknown"} for condition in meta.conditions(found)]
        client.put("nodes", {**found, "status": {**found["status"], "conditions": unknown}})
        await until(lambda: meta.condition_is(client.get("nodes", "", "one"), "Ready"), 15)
        await node.stop()

    run_virtually(story)
