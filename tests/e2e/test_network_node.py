"""Services, DNS and host ports of a real node, whose daemon is killed again and again, as root and rootless."""

from __future__ import annotations

import pytest

from support.network_runs import kinds, runner


@pytest.mark.parametrize("kind", kinds())
def test_a_load_balancer_serves_the_host_while_the_daemon_dies(kind: str) -> None:
    with runner(kind) as run:
        seen = run.module("support.network_whole", 4)
    assert set(seen["answers"]) == {"a", "b", "c"}, "an answer from every pod, and nothing but answers"
    assert seen["lives"] >= 2
    assert seen["address"] == "127.0.0.1"
    port = seen["host ports"]["80/TCP"]
    [event] = seen["events"] or [None]
    assert event is None or event.startswith(f"Normal HostPort: 127.0.0.1:{port} on this machine leads to port 80")
    if kind == "rootless":
        assert port >= 1024
    assert seen["names"] == {
        "service": [0, "10.96.7.7"],
        "service over tcp": [0, "10.96.7.7"],
        "at the gateway": [0, "10.96.7.7"],
        "pod": [0, "10.244.0.11"],
        "nobody": [3, ""],
        "of the host": [0, "127.0.0.1"],
    }
