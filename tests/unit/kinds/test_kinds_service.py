"""Services: their addresses and ports are given out once, kept, and taken back."""

from __future__ import annotations

import asyncio
import copy
from datetime import UTC, datetime

import pytest

from podling.api.errors import ApiError


def service(name="s", **spec):
    meta = {"name": name, "namespace": "default", "uid": f"uid-of-{name}"}
    return {"metadata": meta, "spec": {"ports": [{"port": 80}], **spec}}


@pytest.fixture
def place(kinds, writes, objects):
    """Takes a service all the way to the store."""
    kind = kinds["services/v1"]

    def put(new, old=None):
        write = writes(kind, new, old)
        asyncio.run(kind.strategy.allocate(write))
        assert kind.strategy.validate(write) == []
        stored = objects.stored.setdefault("services", [])
        stored[:] = [s for s in stored if s["metadata"]["name"] != new["metadata"]["name"]]
        stored.append(write.new)
        return write.new

    return put


def test_every_service_gets_an_address_of_its_own_and_none_of_the_reserved(place) -> None:
    addresses = {place(service(f"s{n}"))["spec"]["clusterIP"] for n in range(50)}
    assert len(addresses) == 50
    assert not any(a.startswith("10.96.0.") for a in addresses)


def test_an_address_that_is_asked_for_is_given_once(place) -> None:
    assert place(service("dns", clusterIP="10.96.0.10"))["spec"]["clusterIPs"] == ["10.96.0.10"]
    with pytest.raises(ApiError, match=r"failed to allocate IP 10\.96\.0\.10: provided IP is already allocated"):
        place(service("other", clusterIP="10.96.0.10"))


def test_a_deleted_service_gives_its_address_back(place, kinds, objects) -> None:
    first = place(service("a"))
    objects.stored["services"].clear()
    kinds["services/v1"].strategy.released(first)
    assert place(service("b", clusterIP=first["spec"]["clusterIP"]))["spec"]["clusterIP"] == first["spec"]["clusterIP"]


def test_addresses_of_stored_services_are_known_after_a_restart(place, objects) -> None:
    objects.stored["services"] = [service("old", clusterIP="10.96.7.7", clusterIPs=["10.96.7.7"])]
    with pytest.raises(ApiError):
        place(service("new", clusterIP="10.96.7.7"))


def test_a_service_keeps_what_it_was_given_through_a_replacement(place) -> None:
    first = place(service(type="NodePort"))
    again = place(service(type="NodePort"), copy.deepcopy(first))
    assert again["spec"]["clusterIP"] == first["spec"]["clusterIP"]
    assert again["spec"]["ports"][0]["nodePort"] == first["spec"]["ports"][0]["nodePort"] in range(30000, 32768)


def test_an_address_given_up_by_an_update_is_free_once_that_is_stored(place) -> None:
    first = place(service("a"))
    place(service("a", type="ExternalName", externalName="x.example"), copy.deepcopy(first))
    assert place(service("b", clusterIP=first["spec"]["clusterIP"]))["spec"]["type"] == "ClusterIP"


def test_a_headless_service_has_no_address(place) -> None:
    assert place(service(clusterIP="None"))["spec"]["clusterIPs"] == ["None"]


def test_two_protocols_may_share_a_port_number_but_not_one(kinds, problems) -> None:
    ports = [{"name": "a", "port": 53, "protocol": "UDP"}, {"name": "b", "port": 53}]
    assert problems(kinds["services/v1"], service(ports=copy.deepcopy(ports), clusterIP="None")) == []
    ports[0]["protocol"] = "TCP"
    (told,) = problems(kinds["services/v1"], service(ports=ports, clusterIP="None"))
    assert told.startswith("spec.ports[1]: Duplicate value")


def test_printed_ports_show_node_ports(kinds) -> None:
    obj = service(type="NodePort", ports=[{"port": 80, "nodePort": 30080, "protocol": "TCP"}], clusterIPs=["10.96.9.9"])
    obj["metadata"]["creationTimestamp"] = "2026-01-02T03:00:00Z"
    row = kinds["services/v1"].row(obj, datetime(2026, 1, 2, 4, tzinfo=UTC))
    assert row == ["s", "NodePort", "10.96.9.9", "<none>", "80:30080/TCP", "60m", "<none>"]


def test_a_change_that_is_refused_gives_back_what_it_took_and_no_more(place, kinds, writes) -> None:
    kind = kinds["services/v1"]
    first = place(service("a"))
    refused = writes(kind, service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30000}]), copy.deepcopy(first))
    asyncio.run(kind.strategy.allocate(refused))
    kind.strategy.released(refused.new)
    assert place(service("b", type="NodePort", ports=[{"port": 80, "nodePort": 30000}]))
    with pytest.raises(ApiError, match="already allocated"):
        place(service("c", clusterIP=first["spec"]["clusterIP"]))
