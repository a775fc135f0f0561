"""How the API server finds the kubelet of a pod, and what it says when nobody answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from node_fakes import make_pod, make_rig

from podling.api.errors import ApiError
from podling.node.node import Node
from podling.node.nodes import Nodes


def node_object(name: str) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": "10.244.1.1"}, {"type": "Hostname", "address": name}]
    return {"metadata": {"name": name}, "status": {"addresses": addresses}}


def test_the_kubelet_is_that_of_the_pods_node(tmp_path: Path) -> None:
    rig = make_rig(tmp_path)
    nodes = Nodes(rig.client)
    first, second = Node(rig.surroundings), Node(rig.surroundings)
    nodes.add("node1", first)
    nodes.add("node2", second)
    assert nodes.of_pod(make_pod(nodeName="node2")) is second


def test_a_node_that_has_not_measured_yet_has_its_part_of_the_machine_too(tmp_path: Path) -> None:
    rig = make_rig(tmp_path)
    nodes = Nodes(rig.client)
    nodes.add("node1", Node(rig.surroundings))
    nodes.add("node2", Node(rig.surroundings))
    assert nodes.pods_beside("node1") == [()]


def test_a_node_that_is_stopped_does_not_answer(tmp_path: Path) -> None:
    rig = make_rig(tmp_path)
    rig.client.put("nodes", node_object("node1"))
    nodes = Nodes(rig.client)
    nodes.add("node1", Node(rig.surroundings))
    nodes.remove("node1")
    with pytest.raises(ApiError, match=r"error dialing backend: dial tcp 10.244.1.1:10250: connect: no route to host"):
        nodes.of_pod(make_pod())


def test_a_node_that_was_deleted_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match='nodes "node1" not found'):
        Nodes(make_rig(tmp_path).client).of_pod(make_pod())
