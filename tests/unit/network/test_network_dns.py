from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.network.dns import (
    Answer,
    BadQuery,
    ClusterNames,
    Code,
    Elsewhere,
    Query,
    ServiceNames,
    Type,
    address_record,
    encode_name,
    encode_response,
    parse_query,
)

WEB: ServiceNames = {
    "ips": ["10.96.0.50"],
    "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
    "groups": [{"endpoints": [("10.244.0.9", "")], "ports": [{"name": "http", "protocol": "TCP", "port": 5000}]}],
}
DATABASE: ServiceNames = {
    "ips": [],
    "ports": [{"name": "sql", "protocol": "TCP", "port": 5432}],
    "groups": [
        {
            "endpoints": [("10.244.0.5", "db-0"), ("10.244.0.6", "db-1")],
            "ports": [{"name": "sql", "protocol": "TCP", "port": 5432}],
        }
    ],
}
OUTSIDE: ServiceNames = {"ips": [], "external_name": "Example.com", "ports": [], "groups": []}
ALIAS: ServiceNames = {"ips": [], "external_name": "web.default.svc.cluster.local", "ports": [], "groups": []}


def names() -> ClusterNames:
    known = ClusterNames("cluster.local", "10.96.0.10")
    services = {"default/web": WEB, "default/db": DATABASE, "default/outside": OUTSIDE, "default/alias": ALIAS}
    known.replace(services, ["default", "kube-system"])
    return known


def answer(name: str, kind: Type = Type.A) -> Answer:
    found = names().resolve(name, kind)
    assert isinstance(found, Answer)
    return found


def ips(found: Answer) -> list[str]:
    return [socket.inet_ntoa(record.data) for record in found.records if record.type is Type.A]


def question(name: str, kind: int = Type.A, *, room: int = 0) -> bytes:
    header = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 1 if room else 0)
    options = b"\0" + struct.pack(">HHIH", Type.OPT, room, 0, 0) if room else b""
    return header + encode_name(name) + struct.pack(">HH", kind, 1) + options


def test_a_service_has_its_cluster_ip() -> None:
    assert ips(answer("web.default.svc.cluster.local")) == ["10.96.0.50"]


def test_a_headless_service_has_the_addresses_of_its_pods() -> None:
    assert ips(answer("db.default.svc.cluster.local")) == ["10.244.0.5", "10.244.0.6"]


def test_a_pod_of_a_stateful_set_has_a_name_of_its_own() -> None:
    assert ips(answer("db-1.db.default.svc.cluster.local")) == ["10.244.0.6"]
    assert answer("db-7.db.default.svc.cluster.local").code is Code.NXDOMAIN


def test_an_endpoint_without_a_hostname_is_named_by_its_address() -> None:
    assert ips(answer("10-244-0-9.web.default.svc.cluster.local")) == ["10.244.0.9"]


def test_an_external_name_is_an_alias_and_the_rest_is_asked_elsewhere() -> None:
    found = names().resolve("outside.default.svc.cluster.local", Type.A)
    assert isinstance(found, Elsewhere)
    assert found.name == "example.com"
    assert [record.type for record in found.records] == [Type.CNAME]


def test_an_alias_of_a_service_is_followed() -> None:
    found = answer("alias.default.svc.cluster.local")
    assert [record.type for record in found.records] == [Type.CNAME, Type.A]


def test_an_alias_of_itself_ends() -> None:
    known = names()
    loop: ServiceNames = {**ALIAS, "external_name": "loop.default.svc.cluster.local"}
    known.update({"default/loop": loop})
    found = known.resolve("loop.default.svc.cluster.local", Type.A)
    assert isinstance(found, Answer)
    assert found.code is Code.SERVFAIL


def test_a_service_has_no_ipv6_address_but_exists() -> None:
    found = answer("web.default.svc.cluster.local", Type.AAAA)
    assert (found.code, list(found.records)) == (Code.NOERROR, [])
    assert found.authority[0].type is Type.SOA


@pytest.mark.parametrize(
    "name",
    [
        "nothing.default.svc.cluster.local",
        "web.elsewhere.svc.cluster.local",
        "web.default.svc.cluster.local.default.svc.cluster.local",
        "example.com.default.svc.cluster.local",
        "example.com.svc.cluster.local",
        "example.com.cluster.local",
        "no-address.default.pod.cluster.local",
        "a.b.c.d.default.svc.cluster.local",
    ],
)
def test_unknown_names_of_the_cluster_do_not_exist_and_say_for_how_long(name: str) -> None:
    found = answer(name)
    assert found.code is Code.NXDOMAIN
    assert [record.type for record in found.authority] == [Type.SOA]


@pytest.mark.parametrize("name", ["cluster.local", "svc.cluster.local", "default.svc.cluster.local"])
def test_names_between_exist_without_addresses(name: str) -> None:
    assert answer(name) == answer("web.default.svc.cluster.local", Type.AAAA)


def test_a_pod_address_is_in_its_name() -> None:
    assert ips(answer("10-244-0-7.default.pod.cluster.local")) == ["10.244.0.7"]
    assert answer("10-244-0-7.unknown.pod.cluster.local").code is Code.NXDOMAIN


def test_a_port_is_found_by_its_name() -> None:
    found = answer("_sql._tcp.db.default.svc.cluster.local", Type.SRV)
    ports = {struct.unpack_from(">HHH", record.data)[2] for record in found.records}
    assert (len(found.records), ports) == (2, {5432})
    assert [socket.inet_ntoa(record.data) for record in found.additional] == ["10.244.0.5", "10.244.0.6"]
    assert answer("_sql._udp.db.default.svc.cluster.local", Type.SRV).code is Code.NXDOMAIN


def test_the_port_of_a_service_is_at_the_service() -> None:
    [record] = answer("_http._tcp.web.default.svc.cluster.local", Type.SRV).records
    assert record.data.endswith(encode_name("web.default.svc.cluster.local"))
    assert struct.unpack_from(">HHH", record.data)[2] == 80


def test_addresses_lead_back_to_names_and_unknown_ones_are_answered_at_once() -> None:
    [service] = answer("50.0.96.10.in-addr.arpa", Type.PTR).records
    assert service.data == encode_name("web.default.svc.cluster.local")
    [pod] = answer("5.0.244.10.in-addr.arpa", Type.PTR).records
    assert pod.data == encode_name("db-0.db.default.svc.cluster.local")
    assert answer("1.2.0.192.in-addr.arpa", Type.PTR).code is Code.NXDOMAIN
    assert answer("1.0.0.0.ip6.arpa", Type.PTR).code is Code.NXDOMAIN


def test_other_names_are_asked_elsewhere() -> None:
    assert names().resolve("example.com", Type.A) == Elsewhere("example.com", [])
    assert names().resolve("notcluster.local", Type.A) == Elsewhere("notcluster.local", [])


def test_a_service_that_is_gone_has_no_name_any_more_in_either_direction() -> None:
    known = names()
    known.update({}, ["default/web"])
    for name in ("web.default.svc.cluster.local", "50.0.96.10.in-addr.arpa"):
        found = known.resolve(name, Type.A)
        assert isinstance(found, Answer)
        assert found.code is Code.NXDOMAIN


def test_the_question_comes_back_as_it_was_asked_and_matches_in_any_case() -> None:
    query = parse_query(question("Web.DEFAULT.svc.cluster.local"))
    assert query.name == "web.default.svc.cluster.local"
    found = names().resolve(query.name, query.type)
    assert isinstance(found, Answer)
    message = encode_response(query, found, datagram=True)
    assert encode_name("Web.DEFAULT.svc.cluster.local") in message
    assert message.endswith(socket.inet_aton("10.96.0.50"))


def many(count: int) -> tuple[Query, Answer]:
    query = parse_query(question("many.example"))
    return query, Answer(records=[address_record("many.example", f"10.0.{n // 250}.{n % 250}") for n in range(count)])


def test_an_answer_too_large_for_a_datagram_is_cut_and_says_so() -> None:
    query, large = many(200)
    message = encode_response(query, large, datagram=True)
    assert len(message) <= 512
    flags, _, count = struct.unpack_from(">HHH", message, 2)
    assert flags & 0x0200
    assert 0 < count < 200
    whole = encode_response(query, large, datagram=False)
    assert struct.unpack_from(">HHH", whole, 2)[2] == 200
    assert not struct.unpack_from(">H", whole, 2)[0] & 0x0200


def test_a_client_that_takes_larger_datagrams_gets_them() -> None:
    query = parse_query(question("many.example", room=4096))
    assert (query.datagram, query.extended) == (1232, True)
    _, large = many(60)
    message = encode_response(query, large, datagram=True)
    assert len(message) > 512
    assert not struct.unpack_from(">H", message, 2)[0] & 0x0200


def test_addresses_come_in_another_order_each_time() -> None:
    query, three = many(3)
    first = {encode_response(query._replace(id=n), three, datagram=True)[2:][-4:] for n in range(3)}
    assert len(first) == 3


@pytest.mark.parametrize("rubbish", [b"", b"\0" * 11, question("x")[:14], b"\0\7\x80\0" + b"\0" * 8])
def test_rubbish_is_refused(rubbish: bytes) -> None:
    with pytest.raises(BadQuery):
        parse_query(rubbish)


def serve(data: bytes) -> None:
    try:
        query = parse_query(data)
    except BadQuery:
        return
    found = names().resolve(query.name, query.type)
    if isinstance(found, Answer):
        encode_response(query, found, datagram=True)


@given(st.binary(max_size=600))
def test_no_bytes_do_harm(data: bytes) -> None:
    serve(data)


@given(st.binary(min_size=1, max_size=80), st.sampled_from(["", ".default.svc.cluster.local", ".in-addr.arpa"]))
def test_no_name_does_harm(label: bytes, suffix: str) -> None:
    header = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0)
    name = bytes([len(label) % 64]) + label + encode_name(suffix)
    serve(header + name + b"\0\1\0\1")
