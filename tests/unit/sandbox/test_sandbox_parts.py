"""Small rules of the sandbox that need no namespace."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from podling.sandbox import boot, cgroups, connections, process, rootfs, services, statistics, syscalls, tiers
from podling.sandbox.loop import Loop

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(local: str, state: str, waiting: int = 0, inode: int = 77) -> str:
    return f"   0: {local} 00000000:0000 {state} 00000000:{waiting:08X} 00:00000000 00000000     0        0 {inode} 1\n"


def test_connections_count_on_listening_ports_only_and_waiting_ones_once():
    table = HEADER + row("00000000:1388", "0A", 2) + row("0200F40A:1388", "01", inode=0) * 2
    table += row("0200F40A:1388", "01") + row("0200F40A:1388", "03", inode=0)
    table += row("0200F40A:1388", "06", inode=0) + row("0200F40A:9999", "01")
    six = (
        HEADER + row("00000000000000000000000000000000:1F90", "0A") + row("0000000000000000FFFF00000200F40A:1F90", "01")
    )
    four = list(connections.parse_table(table))
    assert connections.unfinished(four) == 4
    assert connections.unfinished([*four, *connections.parse_table(six)]) == 5
    assert connections.unfinished(list(connections.parse_table(HEADER))) == 0


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_says_of_a_port_what_its_tables_say(family: socket.AddressFamily):
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.create_server((host, 0), family=family))
        port = listener.getsockname()[1]
        held.enter_context(socket.create_connection((host, port)))
        held.enter_context(listener.accept()[0])
        held.enter_context(socket.create_connection((host, port)))
        ask = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, connections.NETLINK_SOCK_DIAG)
        asked = [row for row in connections.ask_kernel(ask.detach()) if row.port == port]
        tables = [row for row in connections.read_tables(os.getpid()) if row.port == port]
    assert sorted(asked) == sorted(tables)
    assert connections.unfinished(asked) == 2


def test_ones_own_usage_is_seen():
    usage = statistics.usage_beside(os.getpid())
    assert usage is not None
    assert usage["memory_rss_bytes"] > 1_000_000
    assert statistics.usage_beside(2**22 + 1) is None


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262_144, 10_000), (0, 1)])
def test_cpu_shares_become_weights_by_the_kubelets_formula(shares: int, weight: int):
    assert cgroups.weight_of_shares(shares) == weight


def test_the_cluster_gets_its_group_below_our_own_in_each_v1_hierarchy(tmp_path: Path):
    for name in ("memory", "cpu"):
        (tmp_path / name / "session").mkdir(parents=True)
    mounts = "".join(
        f"30 25 0:2{n} / {tmp_path}/{name} rw,relatime shared:9 - cgroup cgroup rw,{name}\n"
        for n, name in enumerate(("memory", "cpu"))
    )
    (tmp_path / "mountinfo").write_text(mounts)
    (tmp_path / "own").write_text("4:memory:/session\n1:cpu:/not/visible/here\n")
    found = cgroups.detect("dev", mounts=str(tmp_path / "mountinfo"), own=str(tmp_path / "own")).describe()
    assert found == {
        "version": 1,
        "roots": {
            "cpu": f"{tmp_path}/cpu/podling-dev",
            "memory": f"{tmp_path}/memory/session/podling-dev",
        },
    }


def test_without_any_hierarchy_nothing_is_limited_and_nothing_fails(tmp_path: Path):
    (tmp_path / "empty").write_text("")
    groups = cgroups.detect("dev", mounts=str(tmp_path / "empty"), own=str(tmp_path / "empty"))
    groups.create("burstable/pod1", {"memory_bytes": 1})
    assert groups.usage("burstable/pod1") is None
    assert not groups.freeze("burstable/pod1", frozen=True)
    assert groups.remove("burstable/pod1")


def test_a_service_that_ends_at_once_is_started_ever_more_slowly():
    delay, delays = services.FIRST_DELAY / 2, []
    for _ in range(10):
        delay = services.next_delay(delay, ran_for=0.01)
        delays.append(delay)
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == services.LONGEST_DELAY
    assert services.next_delay(delay, ran_for=60) == services.FIRST_DELAY
    assert services.next_delay(delay, ran_for=0.5, killed=True) == services.FIRST_DELAY


def test_the_largest_range_of_subordinate_ids_counts():
    text = "other:1:5\nme:100000:65536\n# comment\nme:1000000:1000000\n1000:7:7\nbroken\n"
    assert tiers.parse_id_range(text, ["me", "1000"]) == tiers.IdRange(1_000_000, 1_000_000)
    assert tiers.parse_id_range(text, ["nobody"]) is None


def test_a_sub_path_never_leads_out_of_its_volume(tmp_path: Path):
    volume = tmp_path / "volume"
    (volume / "inner").mkdir(parents=True)
    (volume / "inside").symlink_to("inner")
    (volume / "out").symlink_to(tmp_path)
    (volume / "up").symlink_to("..")
    for good in ("inner", "inside", "made/here", "inside/made", "./inner/../inner"):
        os.close(rootfs.open_below(str(volume), good))
    assert (volume / "inner" / "made").is_dir()
    for bad in ("out", "up", "..", "out/volume/inner", "up/volume", "inner/../../volume/inner", "/etc", "up/new"):
        with pytest.raises(OSError, match="cross-device"):
            rootfs.open_below(str(volume), bad)
    assert sorted(os.listdir(tmp_path)) == ["volume"]


def test_a_host_directory_that_changes_while_it_is_copied_is_copied_all_the_same(tmp_path: Path):
    """Accounts and packages come and go by files that live for a moment: `passwd.lock`, `ld.so.cache~`."""
    source = tmp_path / "etc"
    source.mkdir()
    (source / "stays").touch(0o644)
    ended = threading.Event()

    def churn() -> None:
        while not ended.is_set():
            for number in range(50):
                (source / f"passing-{number}").symlink_to("nowhere")
            for number in range(50):
                (source / f"passing-{number}").unlink()

    churner = threading.Thread(target=churn)
    churner.start()
    try:
        for number in range(100):
            rootfs.copy_public_files(str(source), str(tmp_path / f"copy-{number}"))
            assert (tmp_path / f"copy-{number}{source}" / "stays").exists()
    finally:
        ended.set()
        churner.join()


ORPHAN = """
import socket, sys
from podling.sandbox import process
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if sys.argv[1] == "gone":
    ours.close()
process.die_with_parent(theirs)
print("lives on")
"""


@pytest.mark.parametrize(("parent", "says"), [("there", "lives on\n"), ("gone", "")])
def test_whose_parent_has_died_before_it_could_ask_for_a_signal_ends_all_the_same(parent: str, says: str):
    child = subprocess.run([sys.executable, "-c", ORPHAN, parent], capture_output=True, text=True, check=False)
    assert (child.stdout, child.returncode) == (says, 0 if says else process.FAILED)


def test_what_is_made_for_a_sub_path_has_the_volumes_mode(tmp_path: Path):
    tmp_path.chmod(0o775)
    os.close(rootfs.open_below(str(tmp_path), "a/b"))
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o775


def test_a_program_is_searched_as_go_does(tmp_path: Path):
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(process.StartFailure, match=r'exec: "tool": executable file not found in \$PATH'):
        process.look_path(["tool"], f"/nowhere:{tmp_path}")
    program.chmod(0o755)
    assert process.look_path(["tool"], f"/nowhere:{tmp_path}") == str(program)
    with pytest.raises(process.StartFailure) as caught:
        process.look_path([f"{tmp_path}/none"], "")
    assert caught.value.message == f'exec: "{tmp_path}/none": stat {tmp_path}/none: no such file or directory'
    assert caught.value.exit_code == 127


def test_only_foreign_ids_need_a_user_namespace_of_their_own():
    root, person = process.User(0, 0, ()), process.User(999, 0, ())
    assert process.needs_own_user_namespace("rootless-single", person)
    assert not process.needs_own_user_namespace("rootless-single", root)
    assert not process.needs_own_user_namespace("rootless-subuid", person)
    assert not process.needs_own_user_namespace("root", person)


def test_a_failing_callback_does_not_end_the_loop(capfd: pytest.CaptureFixture[str]):
    loop = Loop()

    def fail() -> None:
        raise ValueError("on purpose")

    loop.later(0.002, loop.stop)
    loop.later(0.0, fail)
    loop.run()
    assert "on purpose" in capfd.readouterr().err


def test_timers_run_in_their_order():
    loop, ran = Loop(), list[str]()
    loop.later(0.002, lambda: ran.append("late"))
    loop.later(0.0, lambda: ran.append("first"))
    loop.later(0.0, lambda: ran.append("second"))
    loop.later(0.003, loop.stop)
    loop.run()
    assert ran == ["first", "second", "late"]


def test_the_reason_of_a_refusal_comes_with_its_mend():
    assert "modprobe" in tiers.mend("veth network links", "rootless-single")
    assert "systempaths=unconfined" in tiers.mend("/proc in a new PID namespace", "root")


def test_a_system_call_that_fails_says_what_was_tried():
    with pytest.raises(OSError, match="mount tmpfs none on /no/such/place"):
        syscalls.mount("none", "/no/such/place", "tmpfs")


def test_a_delegated_group_is_asked_for_only_where_somebody_gives_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cgroup.controllers").write_text("memory")
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "private").write_text("")
    (tmp_path / "systemd-run").write_text("#!/bin/sh\n")
    (tmp_path / "systemd-run").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert boot.delegation_command(environment, str(tmp_path))[0] == "systemd-run"
    assert boot.delegation_command({}, str(tmp_path)) == []
    assert boot.delegation_command(environment, "/nowhere") == []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert boot.delegation_command(environment, str(tmp_path)) == []
