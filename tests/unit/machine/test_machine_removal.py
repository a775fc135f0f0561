"""What keeps a node from being taken away."""

from __future__ import annotations

from typing import Any

from podling.machine import keeps_from_removal

HOSTNAME = "kubernetes.io/hostname"


def node(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {HOSTNAME: name}}}


def pod(name: str, node: str = "b", owner: str = "", phase: str = "Running") -> dict[str, Any]:
    owners = [{"kind": owner, "name": "o", "uid": "u", "controller": True}] if owner else []
    metadata = {"namespace": "default", "name": name, "ownerReferences": owners}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase}}


def volume(name: str, *hosts: str) -> dict[str, Any]:
    expression = {"key": HOSTNAME, "operator": "In" if hosts else "Exists", "values": [*hosts]}
    terms = [{"matchExpressions": [expression]}]
    return {"metadata": {"name": name}, "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}}


def test_pods_that_nobody_moved_do() -> None:
    pods = [pod(f"web-{number}") for number in range(5)]
    why = keeps_from_removal("b", node("b"), [node("a")], pods, [])
    assert why is not None
    assert why.startswith("pods run on it (default/web-0, default/web-1, default/web-2 and 2 more)")
    assert "kubectl drain b --ignore-daemonsets" in why


def test_pods_that_have_ended_that_every_node_has_or_that_are_elsewhere_do_not() -> None:
    pods = [pod("job", phase="Succeeded"), pod("agent", owner="DaemonSet"), pod("web", node="a")]
    assert keeps_from_removal("b", node("b"), [node("a")], pods, []) is None


def test_data_that_no_other_node_reaches_do() -> None:
    why = keeps_from_removal("b", node("b"), [node("a")], [], [volume("v", "b"), volume("w", "a")])
    assert why == "volumes lie on it (v); delete their claims first"
    assert keeps_from_removal("b", node("b"), [node("a")], [], [volume("v", "a", "b"), volume("every")]) is None
