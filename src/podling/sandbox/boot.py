"""Start and stop a node: what the command line calls.

A node is one tree of processes below the host helper. It is up when the helper says so over a pipe, and gone when the
helper, the zygote and the control groups are gone; both are waited for by the kernel's own signs, never by polling.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podling.sandbox import cgroups, wire
from podling.sandbox.process import Tier
from podling.sandbox.services import Service

SOCKET_PATH_LIMIT = 100
"""Bytes of a socket's path: the kernel allows 107."""

_START_PATIENCE = 60.0
_KILL_PATIENCE = 10.0


class NodeError(Exception):
    """A node cannot be started or stopped; the text is for the user."""


@dataclass(frozen=True)
class NodeConfig:
    """What a node is made of."""

    name: str
    """The cluster's name; names its control groups."""
    hostname: str
    """The node's name, as seen in the node's UTS namespace and by host-network pods."""
    run_directory: str
    """Existing directory for sockets, node.json, node.log."""
    cache_directory: str
    """Directory that clusters share for the base layers of container roots; below the images' directory."""
    services: Sequence[Service] = field(default_factory=tuple[Service, ...])
    """What the zygote keeps running inside the node: the daemon, the proxy."""
    tier: Tier | None = None
    """Absent: the best one that works."""
    python: str = sys.executable


@dataclass(frozen=True)
class NodeHandle:
    """A running node; pids are the host's."""

    tier: Tier
    helper_pid: int
    zygote_pid: int
    helper_socket: str
    zygote_socket: str


def start_node(config: NodeConfig) -> NodeHandle:
    """Start a node and return when it accepts connections. Raises `NodeError` with the reason and the mend."""
    longest = f"{config.run_directory}/zygote.sock"
    if len(os.fsencode(longest)) > SOCKET_PATH_LIMIT:
        raise NodeError(f"the path {longest} is too long for a socket: set PODLING_HOME to a shorter directory")
    clean_up_after_crash(config.run_directory)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        _spawn(config, writer)
    finally:
        os.close(writer)
    try:
        readable, _, _ = select.select([reader], [], [], _START_PATIENCE)
        answer = os.read(reader, 1 << 16) if readable else b""
    finally:
        os.close(reader)
    if not answer:
        raise NodeError(f"the node did not start; see {config.run_directory}/node.log")
    message: dict[str, Any] = json.loads(answer)
    if "error" in message:
        raise NodeError(message["error"])
    return _handle(config.run_directory, message)


def stop_node(run_directory: str, *, grace: float = 5.0) -> None:
    """End a node and everything in it; returns when nothing of it is left. A node that is not there is no error.

    The services get SIGTERM and `grace` seconds; containers are expected to be stopped before, and are killed.
    Raises `NodeError` when something refuses to go.
    """
    message = _read_node(run_directory)
    if message is None:
        return
    with contextlib.ExitStack() as stack:
        watched = [stack.enter_context(_pidfd(pid)) for pid in (message["helper"], message["zygote"]) if pid]
        if is_running(run_directory):
            cgroups.reopen(message["cgroups"]).thaw()
            _ask_to_stop(run_directory, message["helper"], grace)
            if not _wait_for(watched, grace + _KILL_PATIENCE):
                os.kill(message["helper"], signal.SIGKILL)
                _wait_for(watched, _KILL_PATIENCE)
            _wait_for_lock(run_directory)
    clean_up_after_crash(run_directory)


def _ask_to_stop(run_directory: str, helper: int, grace: float) -> None:
    """A helper that is only starting has no socket yet: a signal ends it, and the kernel its zygote."""
    try:
        with wire.connect(f"{run_directory}/helper.sock") as connection:
            wire.send(connection, {"id": 1, "op": "stop", "grace": grace})
    except OSError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(helper, signal.SIGTERM)


def _wait_for_lock(run_directory: str) -> None:
    """For a zygote whose id nobody had written down yet: that it holds the lock is all that can be seen of it."""
    with _lock_file(run_directory) as lock:
        if lock is not None:
            waiting = threading.Thread(target=fcntl.flock, args=(lock, fcntl.LOCK_EX), daemon=True)
            waiting.start()
            waiting.join(_KILL_PATIENCE)


def is_running(run_directory: str) -> bool:
    """Whether a node's helper or zygote lives: they hold a lock, which the kernel takes back from the dead."""
    with _lock_file(run_directory) as lock:
        if lock is None:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def _lock_file(run_directory: str) -> Generator[int | None]:
    """Closing it gives a lock back that was had of it."""
    try:
        lock = os.open(f"{run_directory}/lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield lock
    finally:
        os.close(lock)


def find_node(run_directory: str) -> NodeHandle | None:
    """The running node of that directory, if there is one."""
    message = _read_node(run_directory)
    if message is None or not message["zygote"] or not _helper_answers(run_directory):
        return None
    return _handle(run_directory, message)


def _helper_answers(run_directory: str) -> bool:
    """Sooner than the lock this tells of a helper that was killed: its zygote lives on for a moment."""
    try:
        wire.connect(f"{run_directory}/helper.sock").close()
    except OSError:
        return False
    return True


def clean_up_after_crash(run_directory: str) -> None:
    """Remove what a node left that was killed: its control groups, its sockets. Raises `NodeError` if it runs."""
    message = _read_node(run_directory)
    if message is None:
        return
    if is_running(run_directory):
        raise NodeError("the cluster is running already")
    if not cgroups.remove_all(message["cgroups"]):
        raise NodeError(f"processes of the cluster do not end: {message['cgroups']['roots']}")
    for name in ("helper.sock", "zygote.sock", "node.json"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{run_directory}/{name}")


def _spawn(config: NodeConfig, writer: int) -> None:
    """Start the host helper, in a control group of its own if the user's service manager gives one."""
    delegated = delegation_command(os.environ)
    if delegated and _run_program(config, writer, delegated) == 0:
        return
    if _run_program(config, writer, []) != 0:
        raise NodeError(f"the node did not start; see {config.run_directory}/node.log")


def delegation_command(environment: Mapping[str, str], unified: str = "/sys/fs/cgroup") -> list[str]:
    """The beginning of a command line that runs the rest in a delegated control group; empty when nothing does.

    Without one an unprivileged user's limits on memory and CPU would not hold: a login session's own group belongs to
    the system.
    """
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if os.geteuid() == 0 or not os.path.exists(f"{unified}/cgroup.controllers"):
        return []
    if not runtime or not os.path.exists(f"{runtime}/systemd/private") or shutil.which("systemd-run") is None:
        return []
    return ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes", "--"]


def _run_program(config: NodeConfig, writer: int, prefix: Sequence[str]) -> int:
    """The configuration goes in by stdin: arguments are for every user of the machine to see."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
    message = {
        "name": config.name,
        "hostname": config.hostname,
        "run_directory": os.path.abspath(config.run_directory),
        "cache_directory": os.path.abspath(config.cache_directory),
        "tier": config.tier,
        "services": list(config.services),
    }
    log = os.open(f"{config.run_directory}/node.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o640)
    try:
        return subprocess.run(
            [*prefix, config.python, "-S", "-E", program, "node", str(writer), config.name],
            input=json.dumps(message).encode(),
            stdout=log,
            stderr=log,
            pass_fds=[writer],
            start_new_session=True,
            cwd="/",
            check=False,
        ).returncode
    finally:
        os.close(log)


def _read_node(run_directory: str) -> dict[str, Any] | None:
    try:
        with open(f"{run_directory}/node.json", encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):  # it is written in one step, so a damaged one is of no node that runs
        return None


def _handle(run_directory: str, message: dict[str, Any]) -> NodeHandle:
    return NodeHandle(
        tier=message["tier"],
        helper_pid=message["helper"],
        zygote_pid=message["zygote"],
        helper_socket=f"{run_directory}/helper.sock",
        zygote_socket=f"{run_directory}/zygote.sock",
    )


@contextlib.contextmanager
def _pidfd(pid: int) -> Generator[int]:
    """A descriptor that becomes readable when the process has ended; -1 if it has already."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        yield -1
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for(pidfds: Sequence[int], patience: float) -> bool:
    """Wait until all those processes have ended; False when that takes too long."""
    deadline = time.monotonic() + patience
    waiting: list[int] = [descriptor for descriptor in pidfds if descriptor >= 0]
    while waiting:
        ended = _readable(waiting, deadline - time.monotonic())
        if not ended:
            return False
        waiting = [descriptor for descriptor in waiting if descriptor not in ended]
    return True


def _readable(descriptors: list[int], patience: float) -> list[int]:
    ready, _, _ = select.select(descriptors, [], [], max(0.0, patience))
    return ready
