from __future__ import annotations

import pytest

from podling.network.addresses import AddressesExhausted, PodAddresses
from podling.network.layout import Layout


def test_addresses_come_in_order_without_the_gateway() -> None:
    addresses = PodAddresses("10.244.0.0/24", reserved=["10.244.0.1"])
    assert [addresses.allocate(uid) for uid in "abc"] == ["10.244.0.2", "10.244.0.3", "10.244.0.4"]


def test_a_pod_that_asks_again_gets_the_address_it_has() -> None:
    addresses = PodAddresses("10.244.0.0/24")
    assert addresses.allocate("a") == addresses.allocate("a")


def test_a_released_address_is_the_last_to_be_given_again() -> None:
    addresses = PodAddresses("10.0.0.0/29")
    given = [addresses.allocate(str(n)) for n in range(4)]
    addresses.release("1")
    addresses.release("0")
    assert addresses.allocate("e") == "10.0.0.5"
    assert addresses.allocate("f") == "10.0.0.6"
    assert addresses.allocate("g") == given[1]
    assert addresses.allocate("h") == given[0]


def test_a_full_network_says_so() -> None:
    addresses = PodAddresses("10.0.0.0/30", reserved=["10.0.0.1"])
    addresses.allocate("a")
    with pytest.raises(AddressesExhausted, match=r"no addresses left in the pod CIDR 10\.0\.0\.0/30"):
        addresses.allocate("b")


def test_after_a_restart_running_pods_keep_their_addresses_and_new_ones_follow_behind() -> None:
    addresses = PodAddresses("10.0.0.0/28", reserved=["10.0.0.1"])
    addresses.restore("b", "10.0.0.7")
    addresses.restore("a", "10.0.0.4")
    assert addresses.allocate("a") == "10.0.0.4"
    assert addresses.allocate("c") == "10.0.0.8"


def test_addresses_below_a_restored_one_are_used_when_the_rest_is_taken() -> None:
    addresses = PodAddresses("10.0.0.0/29", reserved=["10.0.0.1"])
    addresses.restore("a", "10.0.0.5")
    assert [addresses.allocate(uid) for uid in "bcde"] == ["10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.4"]


def test_releasing_what_nobody_holds_changes_nothing() -> None:
    addresses = PodAddresses("10.0.0.0/29")
    addresses.release("ghost")
    assert addresses.allocate("a") == "10.0.0.1"


def test_every_node_has_a_part_of_the_pods_network_and_its_first_address() -> None:
    layout = Layout()
    assert [layout.node_cidr(n) for n in (0, 1, 99)] == ["10.244.0.0/24", "10.244.1.0/24", "10.244.99.0/24"]
    assert [layout.node_ip(n) for n in (0, 1, 99)] == [layout.gateway, "10.244.1.1", "10.244.99.1"]
