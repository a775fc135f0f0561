"""The sandbox with real namespaces, in every tier that this machine allows.

Each test runs a scenario of `tests/support/sandbox_scenarios.py` as root, and as an unprivileged user who was made for
the test: with subordinate ids where the tools for them are installed, and with a single one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

SCENARIOS = Path(__file__).resolve().parents[1] / "support" / "sandbox_scenarios.py"
USER = "podling-sandbox"

TIERS = ("root", "rootless-subuid", "rootless-single") if os.getuid() == 0 else ("rootless-single",)

Run = Callable[[str], Any]


@pytest.fixture(scope="module", params=TIERS)
def tier(request: pytest.FixtureRequest) -> str:
    if request.param == "rootless-subuid" and shutil.which("newuidmap") is None:
        pytest.skip("no newuidmap on this machine")
    return request.param


@pytest.fixture(scope="module")
def person(tier: str) -> Generator[list[str]]:
    """The beginning of a command line that runs as the tier's user, with an interpreter that this user may read."""
    if tier == "root" or os.getuid() != 0:
        yield [sys.executable]
        return
    subprocess.run(["useradd", "--no-create-home", USER], check=True)
    try:
        yield ["runuser", "-u", USER, "--", public_python(), "-B"]
    finally:
        subprocess.run(["userdel", "--force", USER], check=False, capture_output=True)


def public_python() -> str:
    for name in ("python3.13", "python3.12", "python3.11"):
        for directory in ("/usr/bin", "/usr/local/bin"):
            if os.access(f"{directory}/{name}", os.X_OK):
                return f"{directory}/{name}"
    pytest.skip("no interpreter that every user may run")


@pytest.fixture
def run(tier: str, person: list[str]) -> Generator[Run]:
    home = Path(tempfile.mkdtemp(prefix="sandbox-", dir="/tmp"))
    home.chmod(0o777)
    source = home / "source"
    shutil.copytree(SCENARIOS.parents[2] / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    scenarios = source / "tests" / "support" / SCENARIOS.name
    scenarios.parent.mkdir(parents=True)
    shutil.copy(SCENARIOS, scenarios)

    def runner(name: str) -> Any:
        command = [*person, str(scenarios), name, tier, str(home / name)]
        outcome = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd="/", check=False)
        with contextlib.suppress(FileNotFoundError):
            outcome.stderr += (home / name / "run" / "node.log").read_text()
        assert outcome.returncode == 0, outcome.stderr
        return json.loads(outcome.stdout)

    try:
        yield runner
    finally:
        shutil.rmtree(home)


def test_a_container_lives_and_dies_as_its_command_does(run: Run, tier: str):
    seen = run("life")
    assert seen["tier"] == tier
    assert (seen["hello"]["code"], sorted(seen["hello"]["lines"])) == (7, ["err", "out", "p"])
    assert seen["terminated"]["code"] == 143
    assert seen["exec"] == {"code": 3, "output": "      1 sleep 1000\n", "errors": "bad\n"}
    assert seen["descriptors"] == ["0", "1", "2"]
    assert seen["running"] == ["sleeper"]
    assert "removed while running" not in seen
    assert (seen["killed"]["exit_code"], seen["killed"]["signal"]) == (137, 9)
    assert seen["after removal"] == ["hello", "terminated"]
    assert seen["pods"] == []
    assert "started without pod" not in seen
    assert seen["left"] == []


def test_a_command_that_cannot_run_says_why_in_the_words_of_container_runtimes(run: Run):
    seen = run("refusals")
    assert seen["nosuch"] == ['exec: "nosuch": executable file not found in $PATH', 127]
    assert seen["/nosuch"] == ['exec: "/nosuch": stat /nosuch: no such file or directory', 127]
    assert seen["/etc/passwd"] == ['exec: "/etc/passwd": permission denied', 126]
    assert seen["/tmp"] == ['exec: "/tmp": is a directory', 126]
    assert seen["/script"] == ["exec /script: no such file or directory", 127]
    assert seen["/text"] == ["exec /text: exec format error", 126]
    assert seen["capability"] == ['unknown capability "NO_SUCH"', 128]
    assert seen["exec"] == ['exec: "nosuch": executable file not found in $PATH', 127]
    assert seen["containers"] == ["sleeper"]


def test_a_container_is_who_it_was_told_to_be(run: Run):
    seen = run("users")
    assert seen["person"]["lines"] == ["999", "998", "999", "CapEff:\t0000000000000000", "again"]
    assert seen["port"]["lines"] == ["1"]
    assert seen["exec"] == "999\n"
    assert seen["root"]["lines"] == ["0", "chowned", "CapInh:\t0000000000000000", "CapEff:\t00000000a80425fb"]
    assert seen["none"]["lines"] == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    assert seen["home"]["lines"] == ["/root"]
    assert seen["filtered"]["lines"][:2] == ["unshare: unshare failed: Operation not permitted"] * 2
    assert seen["unfiltered"]["lines"] == ["made"]


def test_a_root_is_writable_private_and_without_the_hosts_secrets(run: Run):
    seen = run("roots")
    assert seen["writable"]["lines"] == ["a:x:5:5::/:/bin/sh", "me"]
    assert seen["host unchanged"]
    assert seen["fresh"]["lines"][-1] == "there"
    assert seen["read only"]["lines"][-1] == "shm"
    assert sum("Read-only file system" in line for line in seen["read only"]["lines"]) == 3
    assert seen["secrets"]["lines"][0] == "cat: /etc/shadow: No such file or directory"
    assert "Read-only file system" in seen["hidden"]["lines"][1]
    assert seen["made device"]["lines"][-1] == "0"
    assert {"null", "pts", "shm", "zero"} <= set(seen["devices"]["lines"])
    assert seen["image"]["lines"][1:] == ["hello from a layer", "/run"]
    assert seen["many layers"]["lines"] == ["fine"]
    assert seen["directory"]["lines"] == ["/not/there/yet"]
    assert seen["left"] == []


def test_volumes_are_mounted_where_asked_and_nowhere_else(run: Run):
    seen = run("volumes")
    assert seen["bind"]["lines"] == ["content"]
    assert seen["written"] == "new\n"
    assert seen["read only"]["code"] != 0
    for place in ("below usr", "through a link"):
        assert seen[place]["lines"] == ["new"]
    assert seen["file"]["lines"] == seen["sub path"]["lines"] == ["content"]
    assert seen["made there"]
    for way_out in ("escape", "climb", "../x", "escape/ssl"):
        assert "Invalid cross-device link" in seen[way_out]
    assert seen["tmpfs"]["lines"] == ["1024", "full"]
    assert seen["empty"]["lines"] == ["x"]
    assert seen["order"]["lines"] == ["file"]


def test_terminals_and_attached_streams_behave_like_a_shell(run: Run):
    seen = run("terminals")
    assert "/dev/pts/0" in seen["exec"]
    assert seen["exec code"] == 4
    assert seen["cat"] == ["through\n", 0]
    assert seen["killed exec"] == 137
    assert (seen["attached"], seen["after stdin"], seen["log"]) == ("said\n", 0, ["said"])
    assert "30 90" in seen["terminal"]
    assert seen["terminal code"] == seen["late"] == 0


def test_containers_share_their_pod_and_pods_share_the_network_only(run: Run):
    seen = run("pods")
    assert seen["answers"] == ["HTTP/1.0 200 OK"] * 2
    for way in ("to the other", "to the neighbour", "in the other's network", "from the node"):
        assert seen[way]["lines"] == ["200"]
    assert seen["processes"]["lines"] == ["1"]
    assert seen["no processes"]["lines"] == ["0"]
    assert seen["sysctl"]["lines"] == ["77"]
    assert "unreachable" in seen["refused"]["lines"][0]
    assert seen["same address"] == ["10.244.0.2/32"]
    assert seen["left"] == []


def test_sockets_of_the_host_reach_inside(run: Run):
    seen = run("outside")
    assert seen["connected"]
    assert seen["from the host"]
    assert (seen["taken"], seen["refused"]) == (98, 111)
    assert "127.0.0.1" in seen["resolved"]
    assert seen["unresolved"]
    assert seen["status"]


def test_a_killed_daemon_comes_back_to_find_everything(run: Run):
    seen = run("survival")
    assert seen["missed"] == 9
    assert seen["still runs"]
    assert seen["untouched"]
    assert seen["pods"] == ["p"]
    assert seen["exec"] == "alive\n"
    assert seen["starts"] == 2
    assert seen["other pid"]
    assert seen["left"] == []


def test_a_crash_of_any_part_leaves_nothing(run: Run, tier: str):
    seen = run("crashes")
    for victim in ("helper", "zygote"):
        assert seen[f"{victim}: running"] is False
        assert seen[f"{victim}: left"] == []
    assert seen["starts again"] == tier
    assert seen["second"] == "the cluster is running already"
    assert seen["left"] == []


def test_a_noisy_container_holds_nobody_up_and_fills_no_disk(run: Run):
    seen = run("noise")
    assert seen["slowest start"] < 2
    assert seen["noisy runs"]
    assert seen["cut off"]
    assert seen["files"] == 3
    assert seen["largest"] <= 1_000_000
    assert seen["broken lines"] == 0
    assert seen["tags"] == ["P", "P", "F", "P"]


def test_limits_hold_as_far_as_the_machine_has_control_groups(run: Run):
    seen = run("limits")
    assert seen["while frozen"] <= 2
    assert seen["afterwards"] > 5
    assert seen["killed while frozen"] == 137
    assert seen["left"] == []
    assert seen["out of memory"]["code"] == 137
    assert seen["out of memory"]["state"]["oom_killed"] is True
    if seen["version"] == 0:
        pytest.skip("no control groups for this user: CPU and the number of processes are not limited")
    assert seen["crowd"]["code"] != 0
    assert float(seen["throttled"]["lines"][0]) < 0.4


def test_the_daemon_sees_connections_and_usage_of_pods(run: Run):
    seen = run("inside")
    assert (seen["before"], seen["one waits"]) == (0, 1)
    assert seen["stats"]["pids"] == 1
    assert seen["stats"]["cpu_nanoseconds"] > 0
    assert seen["stats"]["memory_working_set_bytes"] > 2_000_000
    assert seen["without pod"] == [0, {}]


def test_a_build_step_leaves_its_writes_as_a_layer(run: Run):
    seen = run("steps")
    assert seen["first"] == "said\ncried\n"
    assert seen["in the directory"] == ["layer"]
    assert seen["layer"] == [
        *("app", "app/file", "etc", "etc/debian_version"),
        *("usr", "usr/local", "usr/local/bin", "usr/local/bin/tool"),
    ]
    assert seen["second"][0] == 6
    assert seen["second"][1].startswith("one\ntool\n")
    assert seen["host network"]
    assert seen["no network"] == "1"
    assert seen["missing"] == ['exec: "no-such-command": executable file not found in $PATH', 127]
    assert seen["removed"]


def test_nothing_is_held_of_pods_that_are_gone(run: Run):
    seen = run("leaks")
    assert seen["after"] == seen["before"]
    assert seen["containers"] == []


def test_the_tier_is_found_by_trying_and_the_trial_leaves_nothing(run: Run, tier: str):
    seen = run("detection")
    best = tier if tier != "rootless-single" or shutil.which("newuidmap") is None else "rootless-subuid"
    assert seen["chosen"] == best
    assert seen["left"] == ["lock", "node.log"]
