"""What this machine lets this user do, found by doing it in a throw-away child.

Versions and configuration files tell what should work; only trying tells what does. The tiers, best first: `root` (real
root, no user namespace), `rootless-subuid` (a user namespace with the user's subordinate ids) and `rootless-single` (a
user namespace with one id).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

from podling.sandbox import netlink, syscalls, wire
from podling.sandbox.process import Tier

_ID_COUNT = 65_535


class TierError(Exception):
    """No tier works here; the text says why and how to mend it."""


class IdRange(NamedTuple):
    """Subordinate ids of a user: `size` of them from `start` on."""

    start: int
    size: int


class Mapping(NamedTuple):
    """The subordinate ids that a node's user namespace gets."""

    uids: IdRange
    gids: IdRange


def choose(directory: str) -> Tier:
    """The best tier that works with files below `directory`. Raises `TierError`."""
    reasons: list[str] = []
    for tier in candidates():
        reason = probe(tier, directory)
        if reason is None:
            return tier
        reasons.append(f"{tier}: {reason}")
    raise TierError("; ".join(reasons))


def candidates() -> Sequence[Tier]:
    """Tiers worth trying for this user, best first."""
    if os.geteuid() == 0:
        return ("root", "rootless-single")
    return ("rootless-subuid", "rootless-single") if subordinate_ids() else ("rootless-single",)


def subordinate_ids() -> Mapping | None:
    """The user's own entries of /etc/subuid and /etc/subgid, when the tools that may use them are installed."""
    if shutil.which("newuidmap") is None or shutil.which("newgidmap") is None:
        return None
    uids, gids = _id_range("/etc/subuid"), _id_range("/etc/subgid")
    return Mapping(uids, gids) if uids and gids else None


def parse_id_range(text: str, names: Sequence[str]) -> IdRange | None:
    """The largest range of a user, given by name or number, in the format of subuid(5)."""
    ranges = [
        IdRange(int(fields[1]), int(fields[2]))
        for line in text.splitlines()
        if len(fields := line.strip().split(":")) == 3 and fields[0] in names
    ]
    return max(ranges, key=lambda found: found.size, default=None)


def _id_range(path: str) -> IdRange | None:
    uid = os.getuid()
    names = [str(uid)]
    with contextlib.suppress(KeyError):
        names.append(pwd.getpwuid(uid).pw_name)
    try:
        with open(path, encoding="utf-8") as file:
            return parse_id_range(file.read(), names)
    except OSError:
        return None


def enter_user_namespace(tier: Tier, map_ids: Callable[[], None]) -> None:
    """Enter a new user namespace; `map_ids` asks a process outside to write the maps and waits for it."""
    if tier == "root":
        return
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    map_ids()
    if tier == "rootless-subuid":
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def write_maps(tier: Tier, pid: int) -> None:
    """Map the ids of `pid`, a child in a fresh user namespace: our own to root's, and subordinate ones if we may."""
    uid, gid = os.getuid(), os.getgid()
    if tier == "rootless-single":
        syscalls.write_file(f"/proc/{pid}/setgroups", "deny")
        syscalls.write_file(f"/proc/{pid}/uid_map", f"0 {uid} 1")
        syscalls.write_file(f"/proc/{pid}/gid_map", f"0 {gid} 1")
    elif tier == "rootless-subuid":
        mapping = subordinate_ids()
        if mapping is None:
            raise TierError("no subordinate ids")
        for tool, own, extra in (("newuidmap", uid, mapping.uids), ("newgidmap", gid, mapping.gids)):
            count = min(extra.size, _ID_COUNT)
            arguments = [tool, str(pid), "0", str(own), "1", "1", str(extra.start), str(count)]
            outcome = subprocess.run(arguments, capture_output=True, text=True, check=False)
            if outcome.returncode != 0:
                raise TierError(f"{tool} failed: {outcome.stderr.strip()}")


def probe(tier: Tier, directory: str) -> str | None:
    """Try everything that a node needs, in a child that ends afterwards; None, or the reason with its mend."""
    scratch = tempfile.mkdtemp(prefix=".probe-", dir=directory)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, whose program this is a copy of
            ours.close()
            _try_all(tier, scratch, theirs)
        finally:
            os._exit(1)
    theirs.close()
    try:
        return _converse(tier, pid, ours)
    finally:
        ours.close()
        os.waitpid(pid, 0)
        shutil.rmtree(scratch, ignore_errors=True)


def _converse(tier: Tier, pid: int, connection: socket.socket) -> str | None:
    """Map the child's ids when it asks, and hear its verdict."""
    while (received := wire.receive(connection)) is not None:
        message, _ = received
        if "map" in message:
            try:
                write_maps(tier, pid)
            except (OSError, TierError) as error:
                return f"cannot map user ids: {error}"
            wire.send(connection, {})
        else:
            return message["reason"]
    return "the probe died"


def _try_all(tier: Tier, scratch: str, connection: socket.socket) -> None:
    """In the child: each step of a node's start, and of a container's."""

    def map_ids() -> None:
        wire.send(connection, {"map": True})
        if wire.receive(connection) is None:
            os._exit(1)

    step = "user namespaces"
    reason: str | None = None
    try:
        enter_user_namespace(tier, map_ids)
        step = "namespaces"
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS)
        syscalls.unshare(syscalls.CLONE_NEWPID | syscalls.CLONE_NEWCGROUP)
        syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_SLAVE)
        step = "overlay file systems"
        _try_overlay(scratch)
        step = "veth network links"
        with netlink.Netlink() as connection_to_kernel:
            own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            connection_to_kernel.transact([netlink.create_veth("probe0", "probe1", own)])
        step = "nftables address translation"
        _try_nat()
        step = "/proc in a new PID namespace"
        pid = os.fork()
        if pid == 0:
            _try_proc(scratch)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
            raise PermissionError(1, "mount refused")
    except OSError as error:
        reason = f"{step} do not work: {error.strerror}. {mend(step, tier)}"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # here, since an overlay leaves directories closed to their owner
        wire.send(connection, {"reason": reason})
        os._exit(0)


def _try_overlay(scratch: str) -> None:
    for name in ("lower/directory", "upper", "work", "root"):
        os.makedirs(f"{scratch}/{name}")
    options = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
    options += "" if syscalls.in_initial_user_namespace() else ",userxattr"
    syscalls.mount("overlay", f"{scratch}/root", "overlay", data=options)
    os.rmdir(f"{scratch}/root/directory")
    os.mkdir(f"{scratch}/root/directory")
    syscalls.unmount(f"{scratch}/root")


def _try_nat() -> None:
    """A table with a chain that translates addresses, in one nftables batch."""
    family = socket.AF_INET
    subsystem = 10 << 8
    generic = struct.pack("=BBH", family, 0, 0)
    batch = struct.pack(">BBH", 0, 0, 10)
    hook = netlink.nested(4, netlink.attribute(1, struct.pack(">I", 0)), netlink.attribute(2, struct.pack(">i", -100)))
    chain = (
        netlink.attribute(1, netlink.text("probe"))
        + netlink.attribute(3, netlink.text("probe"))
        + hook
        + netlink.attribute(7, netlink.text("nat"))
    )
    messages = [
        netlink.encode(netlink.Request(16, 0, batch), 1),
        netlink.encode(
            netlink.Request(
                subsystem,
                netlink.NLM_F_CREATE | netlink.NLM_F_ACK,
                generic + netlink.attribute(1, netlink.text("probe")),
            ),
            2,
        ),
        netlink.encode(netlink.Request(subsystem | 3, netlink.NLM_F_CREATE | netlink.NLM_F_ACK, generic + chain), 3),
        netlink.encode(netlink.Request(17, 0, batch), 4),
    ]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 12) as connection:
        connection.bind((0, 0))
        connection.send(b"".join(messages))
        acknowledged = 0
        while acknowledged < 2:
            for message in netlink.parse_messages(connection.recv(1 << 16)):
                number = -struct.unpack_from("=i", message.body)[0]
                if number:
                    raise OSError(number, os.strerror(number))
                acknowledged += 1


def _try_proc(scratch: str) -> None:
    try:
        syscalls.mount("proc", f"{scratch}/root", "proc")
        syscalls.unmount(f"{scratch}/root")
    except OSError:
        os._exit(1)
    os._exit(0)


def mend(step: str, tier: Tier) -> str:
    """What to do about a step that fails, from what the system says of itself."""
    inside = "In a container: run it with --privileged, or use a machine or virtual machine of your own."
    if step == "/proc in a new PID namespace":
        return f"Something hides parts of /proc. {inside} (Docker: --security-opt systempaths=unconfined)"
    if step in ("user namespaces", "namespaces", "overlay file systems") and tier != "root":
        if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
            return "Run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        if _sysctl("kernel/unprivileged_userns_clone") == "0":
            return "Run: sudo sysctl -w kernel.unprivileged_userns_clone=1"
        if _sysctl("user/max_user_namespaces") == "0":
            return "Run: sudo sysctl -w user.max_user_namespaces=65536"
    if step == "overlay file systems":
        return "Linux 5.11 or newer is needed, with its overlay module: sudo modprobe overlay"
    if step == "veth network links":
        return "The kernel's veth module is needed: sudo modprobe veth"
    if step == "nftables address translation":
        return "The kernel's nftables modules are needed: sudo modprobe -a nf_tables nft_chain_nat"
    return inside


def _sysctl(name: str) -> str | None:
    try:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None
