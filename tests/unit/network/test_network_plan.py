"""Where the data plane's tables are led by a change, as pure values."""

from __future__ import annotations

from podling.network.services import ServicePort, Wanted, plan
from podling.network.slots import Backend
from podling.network.tables import Chain, Front, Tables, parse_chain

ONE, TWO = Backend("10.244.0.2", 80), Backend("10.244.0.3", 80)


def port(*backends: Backend, affinity: int = 0, external: tuple[str, ...] = (), node_port: int = 0) -> ServicePort:
    return ServicePort("TCP", "10.96.0.5", 80, backends, external, node_port, affinity)


def made(wanted: Wanted) -> Tables:
    return Tables(dict(wanted.slots), dict(wanted.fronts), set(wanted.unserved))


def test_all_addresses_of_a_port_lead_to_one_chain() -> None:
    wanted = plan(Tables(), [port(ONE, external=("192.0.2.1",), node_port=30080)])
    [chain] = wanted.slots
    assert wanted.fronts == {
        Front("TCP", "10.96.0.5", 80): chain,
        Front("TCP", "192.0.2.1", 80): chain,
        Front("TCP", "", 30080): chain,
    }


def test_without_backends_an_address_is_refused_and_a_node_port_is_simply_closed() -> None:
    wanted = plan(Tables(), [port(external=("192.0.2.1",), node_port=30080)])
    assert wanted.unserved == {Front("TCP", "10.96.0.5", 80), Front("TCP", "192.0.2.1", 80)}
    assert not wanted.slots
    assert not wanted.fronts


def test_a_change_of_backends_keeps_the_chain() -> None:
    before = plan(Tables(), [port(ONE)])
    after = plan(made(before), [port(ONE, TWO)])
    assert set(after.slots) == set(before.slots)


def test_more_backends_than_fit_make_a_larger_chain_that_does_not_shrink_again() -> None:
    many = [Backend(f"10.244.0.{n}", 80) for n in range(2, 42)]
    before = plan(Tables(), [port(ONE)])
    larger = plan(made(before), [port(*many)])
    [chain] = larger.slots
    assert chain.size == 240
    smaller = plan(made(larger), [port(ONE)])
    assert set(smaller.slots) == {chain}


def test_affinity_is_another_chain_with_the_same_assignment() -> None:
    before = plan(Tables(), [port(ONE, TWO)])
    after = plan(made(before), [port(ONE, TWO, affinity=60)])
    assert set(after.slots) != set(before.slots)
    assert list(after.slots.values()) == list(before.slots.values())


def test_an_address_that_two_services_claim_is_served_if_either_has_backends() -> None:
    other = ServicePort("TCP", "10.96.0.6", 80, (ONE,), ("192.0.2.1",))
    wanted = plan(Tables(), [port(external=("192.0.2.1",)), other])
    assert wanted.unserved == {Front("TCP", "10.96.0.5", 80)}
    assert Front("TCP", "192.0.2.1", 80) in wanted.fronts


def test_a_chain_is_known_again_by_its_name() -> None:
    for chain in (Chain("TCP", "10.96.0.5", 80, 0, 60), Chain("UDP", "10.96.200.5", 65535, 10800, 960)):
        assert parse_chain(chain.name) == chain
    for name in ("translate", "reject", "skeleton-1234", Chain("TCP", "10.96.0.5", 80, 1, 60).clients):
        assert parse_chain(name) is None
