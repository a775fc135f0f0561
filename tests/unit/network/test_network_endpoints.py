from __future__ import annotations

from typing import Any

from podling.network.endpoints import PodStates, service_names, service_ports
from podling.network.services import ServicePort
from podling.network.slots import Backend

NOBODY = PodStates()


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 5000}]
    spec = {"type": "ClusterIP", "clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1"], "ports": ports, **spec}
    return {"metadata": {"namespace": "default", "name": "web"}, "spec": spec}


def endpoint(ip: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": {"ready": True, "serving": True, "terminating": False, **conditions}}


def slice_of(*endpoints: dict[str, Any], **more: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 5000, "protocol": "TCP"}]
    return {"addressType": "IPv4", "endpoints": list(endpoints), "ports": ports, **more}


def backends(*endpoints: dict[str, Any], pods: PodStates = NOBODY) -> list[str]:
    [port] = service_ports(service(), [slice_of(*endpoints)], pods)
    return [backend.ip for backend in port.backends]


def test_ready_endpoints_serve() -> None:
    assert backends(endpoint("10.244.0.2"), endpoint("10.244.0.3", ready=False)) == ["10.244.0.2"]


def test_unknown_readiness_counts_as_ready() -> None:
    assert backends({"addresses": ["10.244.0.2"]}) == ["10.244.0.2"]


def test_when_nobody_is_ready_those_that_terminate_but_serve_do() -> None:
    leaving = endpoint("10.244.0.2", ready=False, terminating=True)
    assert backends(leaving, endpoint("10.244.0.3", ready=False, serving=False)) == ["10.244.0.2"]
    assert backends(leaving, endpoint("10.244.0.3")) == ["10.244.0.3"]


def test_a_withdrawn_pod_is_used_only_as_the_last_one() -> None:
    withdrawn = PodStates(leaving={"10.244.0.2"})
    assert backends(endpoint("10.244.0.2"), endpoint("10.244.0.3"), pods=withdrawn) == ["10.244.0.3"]
    assert backends(endpoint("10.244.0.2"), pods=withdrawn) == ["10.244.0.2"]
    assert backends(endpoint("10.244.0.2", ready=False, serving=False), pods=withdrawn) == []


def test_an_ended_pod_is_never_used() -> None:
    assert backends(endpoint("10.244.0.2"), pods=PodStates(ended={"10.244.0.2"})) == []


def test_endpoints_are_gathered_from_all_slices_by_port_name() -> None:
    other = slice_of(endpoint("10.244.0.4"), ports=[{"name": "metrics", "port": 9000, "protocol": "TCP"}])
    again = slice_of(endpoint("10.244.0.2"), endpoint("10.244.0.5"))
    [port] = service_ports(service(), [slice_of(endpoint("10.244.0.2")), other, again], NOBODY)
    assert port.backends == (Backend("10.244.0.2", 5000), Backend("10.244.0.5", 5000))


def test_ipv6_slices_are_left_out() -> None:
    [port] = service_ports(service(), [slice_of(endpoint("fd00::1"), addressType="IPv6")], NOBODY)
    assert port.backends == ()


def test_everything_a_port_needs_is_taken_from_the_service() -> None:
    made = service(
        type="NodePort",
        ports=[{"port": 53, "protocol": "UDP", "nodePort": 30053}],
        externalIPs=["192.0.2.1"],
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
    )
    assert service_ports(made, [], NOBODY) == [
        ServicePort("UDP", "10.96.1.1", 53, (), ("192.0.2.1",), node_port=30053, affinity_seconds=60)
    ]


def test_headless_services_and_external_names_have_no_ports_in_the_data_plane() -> None:
    assert service_ports(service(clusterIP="None", clusterIPs=["None"]), [], NOBODY) == []
    assert service_ports(service(type="ExternalName", externalName="x.example", clusterIP=""), [], NOBODY) == []


def test_dns_of_a_headless_service_names_ready_pods_and_on_request_all() -> None:
    headless = {"clusterIP": "None", "clusterIPs": ["None"]}
    parts = [slice_of({**endpoint("10.244.0.2"), "hostname": "db-0"}, endpoint("10.244.0.3", ready=False))]
    assert service_names(service(**headless), parts, NOBODY)["groups"][0]["endpoints"] == [("10.244.0.2", "db-0")]
    everyone = service_names(service(**headless, publishNotReadyAddresses=True), parts, NOBODY)
    assert everyone["groups"][0]["endpoints"] == [("10.244.0.2", "db-0"), ("10.244.0.3", "")]


def test_dns_of_an_external_name() -> None:
    made = service_names(service(type="ExternalName", externalName="x.example"), [], NOBODY)
    assert made.get("external_name") == "x.example"
