"""One machine as three nodes: pods are spread, moved and replaced as on three machines, also when one of them dies."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.kubectl import Kubectl
from support.load import Load
from support.manifests import Manifest, as_yaml, data_claim, service, sleeper, web_server, workload
from support.people import KINDS, Person
from support.system import wait_until

NAME = "nodes"
FIRST, SECOND, THIRD = NODES = (f"podling-{NAME}", f"podling-{NAME}-worker", f"podling-{NAME}-worker2")
GRACE = 3

HOSTNAME = "kubernetes.io/hostname"


def only(app: str) -> Manifest:
    return {"matchLabels": {"app": app}}


WORKLOADS = as_yaml(
    workload(
        "Deployment",
        "spread",
        sleeper(),
        replicas=6,
        pod={
            "tolerations": [
                {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "tolerationSeconds": 1},
            ],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": HOSTNAME,
                    "whenUnsatisfiable": "DoNotSchedule",
                    "nodeTaintsPolicy": "Honor",
                    "labelSelector": only("spread"),
                }
            ],
        },
    ),
    workload(
        "StatefulSet",
        "apart",
        web_server(
            ports=[{"containerPort": 8000, "hostPort": 8080}],
            volumeMounts=[{"name": "data", "mountPath": "/data"}],
        ),
        replicas=3,
        podManagementPolicy="Parallel",
        volumeClaimTemplates=[data_claim()],
        pod={
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {"topologyKey": HOSTNAME, "labelSelector": only("apart")},
                    ]
                }
            }
        },
    ),
    workload("DaemonSet", "agent", web_server(9100, ports=[{"containerPort": 9100}]), pod={"hostNetwork": True}),
)
SERVED = as_yaml(
    workload("Deployment", "web", web_server(), replicas=10, pod={"terminationGracePeriodSeconds": 1}),
    service("web", 8000, type="LoadBalancer"),
    {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": {"maxUnavailable": 4, "selector": only("web")},
    },
)


class Cluster:
    def __init__(self, person: Person) -> None:
        self.person = person
        self.kubectl = Kubectl(person, f"podling-{NAME}")

    def pods(self, app: str) -> list[Any]:
        """Those that are not on their way out."""
        items = self.kubectl.json("get", "pods", "-l", f"app={app}")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def places(self, app: str) -> Counter[str]:
        """How many pods each node has; those that wait for one are at ""."""
        return Counter(pod["spec"].get("nodeName", "") for pod in self.pods(app))

    def containers(self) -> list[str]:
        pods = [pod for app in ("spread", "apart", "agent") for pod in self.pods(app)]
        return sorted(s["containerID"] for pod in pods for s in pod["status"].get("containerStatuses", ()))

    def rolled_out(self, *workloads: str) -> None:
        for name in workloads:
            self.kubectl("rollout", "status", name, "--timeout=60s", timeout=70)

    def answers(self, pod: str, addresses: list[str]) -> list[str]:
        """What these addresses answer when they are asked from within a pod."""
        ask = f"import urllib.request as u; [print(u.urlopen(f'http://{{a}}').status) for a in {addresses}]"
        return self.kubectl("exec", pod, "--", "python", "-c", ask).split()

    def kill_daemon(self) -> None:
        processes = self.person.podling_json("status", "--name", NAME)["processes"]
        os.kill(next(p["pid"] for p in processes if p["name"] == "daemon"), signal.SIGKILL)
        wait_until(lambda: self.kubectl.run("get", "--raw", "/readyz", check=False).returncode == 0)

    def switch(self, verb: str, node: str) -> None:
        self.person.podling("node", verb, node, "--name", NAME)

    def port(self, service: str) -> int:
        urls = self.person.podling_json("status", "--name", NAME)["urls"]
        return next(urlsplit(u["url"]).port for u in urls if u["service"] == service) or 80


@pytest.fixture(scope="module", params=[KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def person(request: pytest.FixtureRequest, persons: dict[str, Person]) -> Person:
    return persons[request.param]


@pytest.fixture(scope="module")
def cluster(person: Person) -> Generator[Cluster]:
    try:
        person.podling(
            *("up", "--empty", "--name", NAME, "--nodes", "3"),
            *("--node-capacity", "cpu=1,memory=1Gi", "--node-monitor-grace-period", str(GRACE)),
        )
        cluster = Cluster(person)
        cluster.kubectl.apply(WORKLOADS)
        cluster.rolled_out("deployment/spread", "statefulset/apart", "daemonset/agent")
        yield cluster
    finally:
        person.podling("down", "--name", NAME, check=False)


def test_pods_are_spread_over_the_nodes(cluster: Cluster) -> None:
    assert cluster.places("spread") == dict.fromkeys(NODES, 2)
    assert cluster.places("apart") == dict.fromkeys(NODES, 1)
    assert cluster.places("agent") == dict.fromkeys(NODES, 1)


def test_each_node_is_one_of_its_own(cluster: Cluster) -> None:
    nodes = {node["metadata"]["name"]: node for node in cluster.kubectl.json("get", "nodes")["items"]}
    assert set(nodes) == set(NODES)
    for node in nodes.values():
        assert (node["status"]["capacity"]["cpu"], node["status"]["capacity"]["memory"]) == ("1", "1Gi")
    for part in ("machineID", "systemUUID"):
        assert len({node["status"]["nodeInfo"][part] for node in nodes.values()}) == 3
    ranges = {name: node["spec"]["podCIDR"].removesuffix("0/24") for name, node in nodes.items()}
    assert len(set(ranges.values())) == 3
    for app in ("spread", "agent"):
        for pod in cluster.pods(app):
            assert pod["status"]["podIP"].startswith(ranges[pod["spec"]["nodeName"]])


@pytest.mark.parametrize(
    ("node", "label", "problem"),
    [
        (THIRD, "mine=yes", f"node '{SECOND}' cannot read '{THIRD}', only its own Node object"),
        (SECOND, "node-restriction.kubernetes.io/mine=yes", "is not allowed to modify labels: node-restriction"),
    ],
)
def test_a_kubelet_may_not_write_for_another_one(cluster: Cluster, node: str, label: str, problem: str) -> None:
    speaking = ("--as", f"system:node:{SECOND}", "--as-group", "system:nodes")
    assert problem in cluster.kubectl.run("label", "node", node, label, *speaking, check=False).stderr


def test_every_node_has_a_network_of_its_own_for_pods_that_share_it(cluster: Cluster) -> None:
    agents = {pod["spec"]["nodeName"]: pod for pod in cluster.pods("agent")}
    asker = agents[FIRST]["metadata"]["name"]
    addresses = [f"{agent['status']['hostIP']}:9100" for agent in agents.values()]
    assert cluster.answers(asker, addresses) == ["200"] * 3
    for node, agent in agents.items():
        assert cluster.kubectl("exec", agent["metadata"]["name"], "--", "hostname").strip() == node


def test_a_host_port_leads_to_the_pod_of_that_node(cluster: Cluster) -> None:
    pods = cluster.pods("apart")
    names = {pod["status"]["hostIP"]: pod["metadata"]["name"] for pod in pods}
    asker = cluster.pods("spread")[0]["metadata"]["name"]
    for address, name in names.items():
        cluster.kubectl("exec", name, "--", "sh", "-c", f"echo > /{name}")
        assert cluster.answers(asker, [f"{address}:8080/{name}"]) == ["200"]


def test_a_volume_stays_with_the_node_of_its_first_pod(cluster: Cluster) -> None:
    for pod in cluster.pods("apart"):
        claim = cluster.kubectl.json("get", "pvc", f"data-{pod['metadata']['name']}")
        volume = cluster.kubectl.json("get", "pv", claim["spec"]["volumeName"])
        (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        assert term["matchExpressions"][0]["values"] == [pod["spec"]["nodeName"]]


def test_the_pods_of_a_dead_node_are_replaced_elsewhere_and_it_comes_back(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    (agent,) = [pod for pod in cluster.pods("agent") if pod["spec"]["nodeName"] == THIRD]
    (apart,) = [pod for pod in cluster.pods("apart") if pod["spec"]["nodeName"] == THIRD]
    cluster.switch("stop", THIRD)
    kubectl.wait(f"node/{THIRD}", "condition=Ready=Unknown", timeout=GRACE + 20)
    kubectl.wait(f"pod/{agent['metadata']['name']}", "condition=Ready=False", timeout=20)
    wait_until(lambda: cluster.places("spread") == {FIRST: 3, SECOND: 3}, what="the pods are not replaced")
    cluster.rolled_out("deployment/spread")
    asked = kubectl.run("logs", agent["metadata"]["name"], check=False)
    assert "connect: no route to host" in asked.stderr
    kubectl("delete", "pod", apart["metadata"]["name"], "--force")
    before = cluster.containers()
    cluster.kill_daemon()
    assert cluster.containers() == before  # found again, on all nodes
    (state,) = [n for n in cluster.person.podling_json("status", "--name", NAME)["nodes"] if n["name"] == THIRD]
    assert (state["running"], state["ready"]) == (False, False)

    cluster.switch("start", THIRD)
    kubectl.wait(f"node/{THIRD}", "condition=Ready", timeout=20)
    wait_until(lambda: len(kubectl.json("get", "pods", "-l", "app=spread")["items"]) == 6, what="evicted pods stay")
    cluster.rolled_out("statefulset/apart", "daemonset/agent")
    (back,) = [pod for pod in cluster.pods("agent") if pod["spec"]["nodeName"] == THIRD]
    assert back["status"]["containerStatuses"] == agent["status"]["containerStatuses"]  # it froze and went on
    (anew,) = [pod for pod in cluster.pods("apart") if pod["spec"]["nodeName"] == THIRD]
    assert anew["metadata"]["uid"] != apart["metadata"]["uid"]  # on the node that has its data


@pytest.mark.slow  # kubectl waits five seconds before it asks for an eviction again
def test_a_drain_under_a_budget_loses_no_request(cluster: Cluster) -> None:
    cluster.kubectl("cordon", FIRST, THIRD)
    cluster.kubectl.apply(SERVED)
    cluster.rolled_out("deployment/web")
    cluster.kubectl("uncordon", FIRST, THIRD)
    assert cluster.places("web") == {SECOND: 10}
    with Load(cluster.port("default/web")).running() as load:
        load.wait_for(200)
        drain = ("drain", SECOND, "--ignore-daemonsets", "--pod-selector=app=web", "--timeout=90s")
        cluster.kubectl(*drain, timeout=100)
        cluster.rolled_out("deployment/web")
        load.wait_for(200)
    assert not load.report.lost, f"{load.report}; the first: {load.report.lost[0]}"
    assert SECOND not in cluster.places("web")
    cluster.kubectl("uncordon", SECOND)


def test_a_node_that_is_none_cannot_fail_and_those_that_are_get_named(cluster: Cluster) -> None:
    refused = cluster.person.podling("node", "stop", "nowhere", "--name", NAME, check=False)
    assert refused.returncode == 1
    assert f'nodes "nowhere" not found; there are: {", ".join(NODES)}' in refused.stderr


@pytest.mark.slow
def test_nodes_come_and_go_but_take_no_pod_with_them(cluster: Cluster) -> None:
    kubectl, person = cluster.kubectl, cluster.person
    person.podling("up", "--empty", "--name", NAME, "--nodes", "5")
    assert cluster.places("agent").keys() >= set(NODES)
    kubectl("rollout", "status", "daemonset/agent", "--timeout=60s", timeout=70)
    assert len(cluster.places("agent")) == 5
    person.podling("up", "--empty", "--name", NAME, "--nodes", "3")
    assert set(kubectl("get", "nodes", "-o", "name").split()) == {f"node/{node}" for node in NODES}
    assert cluster.places("agent") == dict.fromkeys(NODES, 1)
    refused = person.podling("up", "--empty", "--name", NAME, "--nodes", "2", check=False)
    assert refused.returncode == 1
    assert f"kubectl drain {THIRD} --ignore-daemonsets" in refused.stderr
    person.podling("down", "--keep", "--name", NAME)
    person.podling("up", "--empty", "--name", NAME)
    cluster.rolled_out("deployment/spread", "statefulset/apart", "daemonset/agent")
    assert cluster.places("agent") == dict.fromkeys(NODES, 1)
