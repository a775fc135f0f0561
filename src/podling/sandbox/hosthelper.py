"""The host helper: the one process of a node that stays outside its namespaces.

A process inside cannot come back to the host's network, rootless not even by force, so this one hands out sockets that
were made there: the caller binds, connects and listens on them itself, and nobody waits here. It also resolves names
with the host's own resolver, is the parent of the zygote, and cleans up behind it. When it ends, the kernel ends the
zygote, and with it everything.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, TypedDict

from podling.sandbox import cgroups, process, syscalls, tiers, wire
from podling.sandbox.cgroups import Cgroups
from podling.sandbox.loop import Loop
from podling.sandbox.namespaces import prepare_node
from podling.sandbox.process import Settings, Tier
from podling.sandbox.server import Call, Server
from podling.sandbox.services import Service
from podling.sandbox.zygote import Zygote

_RESOLVERS = 4


class Configuration(TypedDict):
    """What `boot` hands over: JSON."""

    name: str
    hostname: str
    run_directory: str
    cache_directory: str
    tier: Tier | None
    services: list[Service]


class _Resolver:
    """Name look-ups block, so a few threads do them."""

    def __init__(self, loop: Loop, answer: Callable[[Call, list[str] | OSError], None]) -> None:
        self._questions: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Call, list[str] | OSError]] = queue.SimpleQueue()
        self._answer = answer
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._threads: list[threading.Thread] = []
        loop.watch(self._reader, self._deliver)

    def ask(self, call: Call) -> None:
        if len(self._threads) < _RESOLVERS:
            thread = threading.Thread(target=self._work, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._questions.put(call)

    def _work(self) -> None:
        while True:
            call = self._questions.get()
            self._answers.put((call, _resolved(call.message["name"])))
            with contextlib.suppress(BlockingIOError):
                os.write(self._writer, b"!")

    def _deliver(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        with contextlib.suppress(queue.Empty):
            while True:
                self._answer(*self._answers.get_nowait())


def _resolved(name: str) -> list[str] | OSError:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class HostHelper:
    """Serves `run/helper.sock` as long as the zygote lives."""

    def __init__(
        self, *, loop: Loop, listener: socket.socket, zygote: socket.socket, zygote_pid: int, groups: Cgroups
    ) -> None:
        self._loop = loop
        self._zygote = zygote
        self._groups = groups
        self._zygote_pid = zygote_pid
        self._resolver = _Resolver(loop, self._finish)
        self._server = Server(
            loop,
            listener,
            {"resolve": self._resolver.ask, "socket": self._socket, "status": self._status, "stop": self._stop_slowly},
        )
        loop.watch(zygote.fileno(), self._hear_zygote)
        loop.on_signals({signal.SIGCHLD: self._reap, signal.SIGTERM: self._stop, signal.SIGINT: self._stop})

    def _hear_zygote(self, _: int) -> None:
        """It says nothing; it ends, once nothing is frozen any more that has to die with it."""
        if wire.receive(self._zygote) is None:
            self._loop.forget(self._zygote.fileno())
            self._groups.thaw()

    def _socket(self, call: Call) -> None:
        """A socket of the host's network."""
        kind = call.message["type"] | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            created = socket.socket(call.message["family"], kind)
        except OSError as error:
            self._finish(call, error)
            return
        self._server.answer(call, None, [created.detach()])

    def _status(self, call: Call) -> None:
        self._server.answer(call, {"helper": os.getpid(), "zygote": self._zygote_pid})

    def _stop_slowly(self, call: Call) -> None:
        wire.send(self._zygote, {"op": "stop", "grace": call.message.get("grace", 0)})
        self._server.answer(call, None)

    def _finish(self, call: Call, result: list[str] | OSError) -> None:
        if isinstance(result, OSError):
            self._server.fail(call, "Failed", result.strerror or str(result), number=result.errno or 0)
        else:
            self._server.answer(call, result)

    def _stop(self) -> None:
        with contextlib.suppress(OSError):
            wire.send(self._zygote, {"op": "stop", "grace": 0})

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            pid, _ = os.waitpid(self._zygote_pid, os.WNOHANG)
            if pid == self._zygote_pid:
                self._loop.stop()


def main(configuration: Configuration, ready: int) -> None:
    """Start a node and serve it until its end. What `boot` waits for is written to `ready` once."""
    run = configuration["run_directory"]
    syscalls.set_process_name("podling-host")
    lock = os.open(f"{run}/lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _report(ready, {"error": f"cluster {configuration['name']} is running already"})
        return
    groups: Cgroups = cgroups.NoCgroups()
    try:
        tier = configuration["tier"] or tiers.choose(run)
        groups = cgroups.detect(_group_name(configuration))
        node: dict[str, Any] = {"helper": os.getpid(), "zygote": None, "tier": tier, "cgroups": groups.describe()}
        _write_whole(f"{run}/node.json", json.dumps(node))
        zygote_pid, zygote = _start_zygote(configuration, tier, groups, ready)
        node["zygote"] = zygote_pid
        _write_whole(f"{run}/node.json", json.dumps(node))
        listener = wire.listen(f"{run}/helper.sock")
    except (OSError, tiers.TierError) as error:
        _clean_up(run, groups)
        os.close(lock)  # before the report: whoever reads it may try again at once
        _report(ready, {"error": str(error)})
        return
    loop = Loop()
    HostHelper(loop=loop, listener=listener, zygote=zygote, zygote_pid=zygote_pid, groups=groups)
    _report(ready, node)
    loop.run()
    _clean_up(run, groups)


def _group_name(configuration: Configuration) -> str:
    """Clusters of one name may belong to different users, or to different homes of one user."""
    digest = hashlib.sha256(os.fsencode(configuration["run_directory"])).hexdigest()
    return f"{configuration['name']}-{digest[:8]}"


def _clean_up(run: str, groups: Cgroups) -> None:
    """After the zygote: the kernel took namespaces, mounts and links; groups and sockets are ours to remove."""
    left = ["helper.sock", "zygote.sock"]
    if cgroups.remove_all(groups.describe()):
        left.append("node.json")
    for name in left:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{run}/{name}")


def _start_zygote(configuration: Configuration, tier: Tier, groups: Cgroups, ready: int) -> tuple[int, socket.socket]:
    """Fork the zygote into its namespaces, as a direct child. Returns its pid here and the line to it.

    A process enters a PID namespace only by birth, so one child enters all the others and forks the zygote, which
    becomes ours when that child ends.
    """
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    middle = os.fork()
    if middle == 0:
        ours.close()
        os.close(ready)
        _enter_namespaces(configuration, tier, groups, theirs)
    theirs.close()
    zygote_pid = 0
    while (received := wire.receive(ours)) is not None:
        message, _ = received
        if "error" in message:
            raise OSError(message["error"])
        if "map" in message:
            tiers.write_maps(tier, middle)
            wire.send(ours, {})
        elif "zygote" in message:
            zygote_pid = message["zygote"]
            os.waitpid(middle, 0)
            wire.send(ours, {})
        elif "ready" in message:
            return zygote_pid, ours
    raise OSError(f"the zygote died; see {configuration['run_directory']}/node.log")


def _enter_namespaces(configuration: Configuration, tier: Tier, groups: Cgroups, line: socket.socket) -> None:
    def ask(message: dict[str, Any]) -> None:
        wire.send(line, message)
        if wire.receive(line) is None:
            os._exit(1)

    try:
        tiers.enter_user_namespace(tier, lambda: ask({"map": True}))
        syscalls.unshare(
            syscalls.CLONE_NEWNS
            | syscalls.CLONE_NEWNET
            | syscalls.CLONE_NEWIPC
            | syscalls.CLONE_NEWUTS
            | syscalls.CLONE_NEWPID
        )
        pid = os.fork()
        if pid:
            wire.send(line, {"zygote": pid})
            os._exit(0)
        if wire.receive(line) is None:
            os._exit(1)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        _become_zygote(configuration, tier, groups, line)
    except OSError as error:
        wire.send(line, {"error": str(error)})
    finally:
        os._exit(1)


def _become_zygote(configuration: Configuration, tier: Tier, groups: Cgroups, line: socket.socket) -> None:
    """In pid 1 of the node's namespaces."""
    syscalls.set_process_name("podling-zygote")
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_SLAVE)
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    prepare_node(configuration["hostname"])
    open_files = process.raise_open_files()
    listener = wire.listen(f"{configuration['run_directory']}/zygote.sock")
    settings = Settings(tier, configuration["cache_directory"], open_files)
    zygote = Zygote(settings=settings, cgroups=groups, listener=listener, helper=line, loop=Loop())
    wire.send(line, {"ready": True})
    sys.stdout.flush()
    zygote.run(configuration["services"])


def _report(ready: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(ready, json.dumps(message).encode())
    os.close(ready)


def _write_whole(path: str, content: str) -> None:
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(content)
    os.rename(f"{path}.new", path)
