"""The data plane, the proxy and the way out in real namespaces, under load: as root and rootless.

Each scenario makes a node with pods in namespaces of its own; they are told in `tests/support/network_scenarios.py`.
"""

from __future__ import annotations

import errno
from collections.abc import Generator

import pytest

from support.network_runs import Runner, kinds, runner


@pytest.fixture(scope="module", params=kinds())
def run(request: pytest.FixtureRequest) -> Generator[Runner]:
    with runner(request.param) as made:
        yield made


@pytest.mark.parametrize("source", ["node", "pod"])
def test_no_connection_is_refused_while_endpoints_change_1500_times(run: Runner, source: str) -> None:
    report = run("endpoints_change", 1500, source)
    assert report["refused"] == {}
    assert report["answered"] > 1500
    assert report["backends"] == 4


def test_no_connection_is_refused_while_the_map_grows_and_affinity_comes_and_goes(run: Runner) -> None:
    report = run("endpoints_grow", 100)
    assert report["refused"] == {}
    assert report["sizes"] == [60, 960]
    assert report["chains"] <= 4


def test_no_connection_is_refused_while_the_daemon_is_replaced_and_it_takes_over_what_it_finds(run: Runner) -> None:
    report = run("daemon_restarts", 40)
    assert report["refused"] == {}
    assert report["answered"] > 100
    assert report["changed_by_last"] is False


def test_an_upgrade_keeps_the_services(run: Runner) -> None:
    report = run("upgrade", 40)
    assert sum(report["refused"].values()) * 10_000 <= report["answered"]
    assert report["backends"] == 4


def test_no_connection_through_a_host_port_is_refused_while_endpoints_change(run: Runner) -> None:
    report = run("host_port", 800)
    assert report["refused"] == {}
    assert report["answered"] > 800
    assert report["backends"] == 4


def test_services_do_what_kubernetes_says(run: Runner) -> None:
    seen = run("features")
    pods = {"10.244.0.10", "10.244.0.11"}
    for where in ("node", "pod"):
        assert seen[f"node port from {where}"] in pods
        assert seen[f"external ip from {where}"] in pods
        assert seen[f"unknown service from {where}"] == "ConnectionRefusedError"
        assert seen[f"unknown port from {where}"] == "ConnectionRefusedError"
        assert seen[f"no endpoints from {where}"] == "ConnectionRefusedError"
        assert seen[f"external ip without endpoints from {where}"] == "ConnectionRefusedError"
        assert seen[f"node port without endpoints from {where}"] == "ConnectionRefusedError"
        assert seen[f"gone pod from {where}"] == "OSError"
    assert seen["hairpin"] == "10.244.0.10"
    assert seen["tables"] == [0, 0]


def test_ports_of_a_node_lead_to_its_pod_and_a_node_that_is_cut_off_is_silent(run: Runner) -> None:
    seen = run("host_ports_and_cuts")
    for where in ("node", "pod"):
        assert seen[f"host port from {where}"] == "10.244.0.10"
    assert seen["the same port of another node"] == "OSError"
    assert seen["a node that is cut off"] == "TimeoutError"
    assert (seen["another node meanwhile"], seen["a node that is back"]) == ("10.244.0.10", "10.244.1.10")
    assert seen["host port of a pod that is gone"] == "ConnectionRefusedError"


def test_a_sticky_client_stays_until_its_backend_goes(run: Runner) -> None:
    assert run("affinity") == {"kept": True, "moved": True, "unchanged": True}


def test_a_datagram_client_is_led_elsewhere_when_its_backend_goes(run: Runner) -> None:
    seen = run("datagrams")
    assert (seen["sticks"], seen["moved"]) == (True, True)
    assert "silence" not in seen["no endpoints"]


def test_pods_reach_the_outside_and_are_told_at_once_where_there_is_nothing(run: Runner) -> None:
    seen = run("way_out")
    assert seen["pod"] == seen["node"] == ["outside", "ConnectionResetError", "ConnectionResetError"]
    assert seen["udp"] == "ConnectionRefusedError"


def test_a_thousand_services_are_taken_over_and_one_of_them_changed_in_a_moment(run: Runner) -> None:
    times = run("many_services", 1000)
    assert times["changed"] is False
    assert times["change one"] < 50


def test_a_proxy_that_returns_serves_what_the_last_one_was_told(run: Runner) -> None:
    seen = run("proxy_returns")
    assert (seen["closed"], seen["answer"]) == ("ConnectionRefusedError", "10.244.0.10")
    assert seen["name"] == [0, "10.96.7.7"]
    assert seen["refused"]["errno"] == errno.EADDRINUSE


def test_pods_leave_and_come_back_to_the_slots(run: Runner) -> None:
    assert run("withdrawal") == {
        "both ready": ["0", "1"],
        "one withdrawn": ["1"],
        "the last one withdrawn": ["0"],
        "another ready again": ["1"],
        "admitted": ["0", "1"],
        "deletion began": ["0"],
        "both gone": ["nobody"],
        "a new pod at an old address": ["1"],
        "another service at an old address": ["1"],
    }
