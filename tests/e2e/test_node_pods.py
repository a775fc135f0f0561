"""Pods in real sandboxes, run by the node with a store of dictionaries: told in `tests/support/node_stories.py`."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Generator

import pytest

from support.node_runs import Stories, stories
from support.people import Person


@pytest.fixture(scope="module")
def tell(person: Person) -> Generator[Stories]:
    with stories(person) as made:
        yield made


def test_a_server_becomes_ready_as_soon_as_it_answers(tell: Stories) -> None:
    saw = tell("plain")
    assert saw["status"]["phase"] == "Running"
    assert saw["ready after"] < 5
    assert saw["gone after"] < 5
    assert saw["events"][:3] == ["Pulled", "Created", "Started"]


def test_volumes_show_what_the_spec_says(tell: Stories) -> None:
    saw = tell("volumes")
    assert "Read-only file system" in saw
    assert "tmpfs" in saw
    assert "nameserver 10.96.0.10" in saw


def test_ends_are_reported_with_code_and_message(tell: Stories) -> None:
    saw = tell("endings")
    assert (saw["a"]["exitCode"], saw["a"]["reason"], saw["a"]["message"]) == (3, "Error", "hello")
    assert (saw["b"]["exitCode"], saw["b"]["message"]) == (1, "from-logs\n")
    assert (saw["c"]["exitCode"], saw["c"]["reason"]) == (0, "Completed")
    assert (saw["d"]["exitCode"], saw["d"]["reason"]) == (128, "StartError")


def test_hooks_run_and_a_follower_sees_the_end(tell: Stories) -> None:
    saw = tell("hooks")
    assert saw["output"] == "started\nterm\n"
    assert saw["seconds"] < 3


def test_probes_judge_what_really_runs(tell: Stories) -> None:
    saw = tell("probes")
    assert saw["exec"] == 0
    assert saw["last"] == 137
    assert any(m.endswith(":9: connect: connection refused") for m in saw["unhealthy"])
    assert "Liveness probe failed: " in saw["unhealthy"]


def test_a_security_context_is_kept(tell: Stories) -> None:
    saw = tell("identity").splitlines()
    assert saw[:2] == ["1234", "99"]
    assert "Read-only file system" in saw[2]
    assert saw[3].split() == ["CapBnd:", "0000000000000000"]


def test_pods_survive_the_daemon_and_are_adopted(tell: Stories) -> None:
    before = tell("start_lasting")
    tell("remove_behind")
    _kill(_host_pid(before["pid"]))
    after = tell("see_lasting")
    assert after["pid"] != before["pid"]
    assert after["id"] == before["id"]
    assert after["restarts"] == 0
    assert after["ending"] == 4
    assert not any("leaving" in sandbox for sandbox in after["sandboxes"])
    assert after["output"] == "began\n"


def _kill(pid: int) -> None:
    """Returns when it is dead."""
    with os.fdopen(os.pidfd_open(pid)) as process:
        os.kill(pid, signal.SIGKILL)
        select.select([process], [], [])


def _host_pid(inner: int) -> int:
    """Of a process that knows itself by another number in the node's PID namespace."""
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/status") as status, open(f"/proc/{entry}/cmdline") as command:
                numbers = next((line.split()[1:] for line in status if line.startswith("NSpid")), [])
                if numbers[-1:] == [str(inner)] and len(numbers) > 1 and "node_stories" in command.read():
                    return int(entry)
        except OSError:
            continue
    raise AssertionError("no such process")
