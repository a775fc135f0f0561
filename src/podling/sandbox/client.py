"""The daemon's side of the zygote and of the host helper, for asyncio.

One connection each, over which requests are answered in any order. When the connection breaks, everything that waits
fails with `ConnectionError`; containers are not concerned.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import itertools
import os
import signal
import socket
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from podling.sandbox import cgroups, connections, statistics, wire
from podling.sandbox.cgroups import Usage
from podling.sandbox.spec import ContainerSpec, ContainerState, Limits, PodSpec

_MESSAGES_PER_TURN = 64


class SandboxError(Exception):
    """The zygote or the kernel refused."""


class NotFound(SandboxError, KeyError):
    """There is no such pod or container."""

    def __str__(self) -> str:
        return SandboxError.__str__(self)


class AlreadyExists(SandboxError):
    """The id is taken."""


class Conflict(SandboxError):
    """Not in this state: a running container is not forgotten."""


class StartError(SandboxError):
    """The command cannot be executed; worded as container runtimes do."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        """127 not found, 126 not executable, 128 anything else."""


_ERRORS: Mapping[str, type[SandboxError]] = {
    "NotFound": NotFound,
    "AlreadyExists": AlreadyExists,
    "Conflict": Conflict,
}

_Answer = tuple[Any, list[int]]


class _Line:
    """A connection with numbered requests."""

    def __init__(self, connection: socket.socket, on_event: Callable[[dict[str, Any]], None]) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._on_event = on_event
        self._outbox = wire.Outbox(connection)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection.fileno(), self._read)
        self.closed: asyncio.Future[None] = self._loop.create_future()

    async def ask(
        self, message: Mapping[str, Any], descriptors: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        """Send a request (its descriptors are closed once sent); the answer, with descriptors that now are ours."""
        if self.closed.done():
            wire.close_all(descriptors)
            raise ConnectionError("the connection to the node is closed")
        number = next(self._numbers)
        future: asyncio.Future[tuple[dict[str, Any], list[int]]] = self._loop.create_future()
        self._waiting[number] = future
        self._outbox.put({"id": number, **message}, descriptors)
        self._write()
        return await future

    def close(self) -> None:
        if self.closed.done():
            return
        self.closed.set_result(None)
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        self._outbox.discard()
        self._connection.close()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ConnectionError("the connection to the node broke"))

    def _write(self) -> None:
        try:
            done = self._outbox.flush()
        except OSError:
            self.close()
            return
        if done:
            self._loop.remove_writer(self._connection.fileno())
        else:
            self._loop.add_writer(self._connection.fileno(), self._write)

    def _read(self) -> None:
        for _ in range(_MESSAGES_PER_TURN):
            try:
                received = wire.receive(self._connection)
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                self.close()
                return
            self._hear(*received)
            if self.closed.done():
                return

    def _hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "event" in message:
            wire.close_all(descriptors)
            self._on_event(message)
            return
        future = self._waiting.pop(message["id"], None)
        if future is None or future.done():  # the asker was cancelled
            wire.close_all(descriptors)
        else:
            future.set_result((message, descriptors))


class ExecProcess:
    """Another process of a container. The descriptors are the caller's to close.

    With a terminal only `stdout` is set: its master, to be read and written.
    """

    def __init__(
        self, sandbox: Sandbox, pid: int, ended: asyncio.Future[int], streams: Sequence[int | None], *, tty: bool
    ) -> None:
        self.pid = pid
        """In the node's PID namespace."""
        self.stdin, self.stdout, self.stderr = streams
        self._sandbox = sandbox
        self._ended = ended
        self._tty = tty

    async def wait(self) -> int:
        """The exit code, as a shell shows it. Raises `ConnectionError` when the zygote is gone."""
        return await asyncio.shield(self._ended)

    async def resize(self, width: int, height: int) -> None:
        """Tell the terminal its size, in characters."""
        if self._tty and self.stdout is not None:
            _resize(self.stdout, width, height)

    async def kill(self) -> None:
        """SIGKILL; harmless after its end."""
        if not self._ended.done():
            await self._sandbox.signal_exec(self.pid, signal.SIGKILL)


class Attachment:
    """Live output of a container, and its input when it has one. The descriptors are the caller's to close.

    `stdout` and `stderr` end with the container, or when they are not read for a mebibyte.
    """

    def __init__(self, names: Sequence[str], descriptors: Sequence[int], ended: asyncio.Future[int]) -> None:
        streams = dict(zip(names, descriptors, strict=True))
        self._terminal = streams.get("tty")
        self.stdin = streams.get("stdin", self._terminal)
        self.stdout = streams.get("stdout")
        self.stderr = streams.get("stderr")
        self._ended = ended

    async def wait(self) -> int:
        """The container's exit code."""
        return await asyncio.shield(self._ended)

    async def resize(self, width: int, height: int) -> None:
        if self._terminal is not None:
            _resize(self._terminal, width, height)

    async def kill(self) -> None:
        """Stops waiting for the container's end; who stops watching it does not end it."""
        self._ended.cancel()


class Sandbox:
    """The zygote."""

    def __init__(self, connection: socket.socket) -> None:
        self._line = _Line(connection, self._on_event)
        self._callbacks: list[Callable[[ContainerState], None]] = []
        self._execs: dict[int, asyncio.Future[int]] = {}
        self._exec_numbers = itertools.count(1)
        self._ends: dict[str, set[asyncio.Future[int]]] = {}
        self._groups: dict[str, str] = {}
        self._pods: dict[str, set[str]] = {}
        self._pids: dict[str, int] = {}
        self._cgroups: cgroups.Cgroups = cgroups.NoCgroups()
        self.closed = self._line.closed
        """Done when the connection is."""

    @classmethod
    async def connect(cls, path: str) -> Sandbox:
        """Connect to `run/zygote.sock`. Raises `OSError`."""
        sandbox = cls(wire.connect(path))
        description = await sandbox.describe()
        sandbox._cgroups = cgroups.reopen(description["cgroups"])
        sandbox._groups = dict(description["groups"])
        for state in await sandbox.containers():
            if "exit_code" not in state:
                sandbox._know(state)
        return sandbox

    def close(self) -> None:
        """Let go of the zygote; everything in it goes on."""
        self._line.close()

    async def create_pod(self, spec: PodSpec) -> None:
        """Make a pod's namespaces, link and control group. Raises `AlreadyExists`, `SandboxError`."""
        await self._ask({"op": "create_pod", "spec": spec})

    async def remove_pod(self, pod: str) -> None:
        """Kill what is left in the pod and forget it with its containers; one that is not there is no error."""
        await self._ask({"op": "remove_pod", "pod": pod})

    async def start(self, spec: ContainerSpec) -> ContainerState:
        """Start a container; returns when its command is executed. Raises `StartError`, `NotFound` for the pod."""
        state, _ = await self._ask({"op": "start", "spec": spec})
        self._groups[spec["id"]] = state.pop("group")
        if "exit_code" not in state:
            self._know(state)
        return state

    async def signal(self, container: str, signal: int) -> None:
        """Send a signal to a container's first process; harmless after its end."""
        await self._ask({"op": "signal", "container": container, "signal": int(signal)})

    async def freeze(self, container: str, frozen: bool) -> None:
        """Stop all processes of a container, or let them go on."""
        await self._ask({"op": "freeze", "container": container, "frozen": frozen})

    async def update(self, pod: str, limits: Limits, container: str = "") -> None:
        """Give a pod's group, or one of its running containers, other limits; those not named stay.

        Raises `NotFound`, and `Conflict` for a memory limit below what is in use.
        """
        target = {"container": container} if container else {}
        await self._ask({"op": "update", "pod": pod, "limits": limits, **target})

    async def remove(self, container: str) -> None:
        """Forget an ended container; one that is not there is no error. Raises `Conflict` while it runs."""
        await self._ask({"op": "remove", "container": container})

    async def exec(
        self,
        container: str,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        tty: bool = False,
        stdin: bool = False,
        user: tuple[int, int, Sequence[int]] | None = None,
    ) -> ExecProcess:
        """Execute another command in a running container; what is not given is as in the container.

        `user` is (uid, gid, further groups). Raises `StartError`, `NotFound`.
        """
        spec: dict[str, Any] = {"args": list(args), "tty": tty, "stdin": stdin}
        if env is not None:
            spec["env"] = dict(env)
        if cwd is not None:
            spec["cwd"] = cwd
        if user is not None:
            spec["uid"], spec["gid"], spec["groups"] = user[0], user[1], list(user[2])
        inner, outer = ([], [None, None, None]) if tty else _pipes(stdin)
        number = next(self._exec_numbers)
        ended = self._execs[number] = asyncio.get_running_loop().create_future()
        request = {"op": "exec", "container": container, "spec": spec, "number": number}
        try:
            result, descriptors = await self._ask(request, inner)
        except BaseException:
            del self._execs[number]
            wire.close_all([descriptor for descriptor in outer if descriptor is not None])
            raise
        if tty:
            outer = [None, descriptors[0], None]
        return ExecProcess(self, result["pid"], ended, outer, tty=tty)

    async def signal_exec(self, pid: int, number: int) -> None:
        """Send a signal to an exec's process; harmless after its end."""
        await self._ask({"op": "signal_exec", "pid": pid, "signal": int(number)})

    async def attach(self, container: str) -> Attachment:
        """Live streams of a container, from now on. Raises `NotFound`."""
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._ends.setdefault(container, set()).add(ended)
        ended.add_done_callback(lambda _: self._wait_no_more(container, ended))
        try:
            result, descriptors = await self._ask({"op": "attach", "container": container})
        except BaseException:
            ended.cancel()
            raise
        if result["exit_code"] is not None and not ended.done():
            ended.set_result(result["exit_code"])
        return Attachment(result["streams"], descriptors, ended)

    def _wait_no_more(self, container: str, ended: asyncio.Future[int]) -> None:
        waiting = self._ends.get(container, set())
        waiting.discard(ended)
        if not waiting:
            self._ends.pop(container, None)

    async def dial(self, pod: str, port: int, host: str = "127.0.0.1") -> socket.socket:
        """A TCP connection made inside the pod's network namespace. Raises `OSError` as connect does."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        descriptor = await self._socket_in(pod, family, socket.SOCK_STREAM, 0)
        return await _connected(socket.socket(fileno=descriptor), host, port)

    async def _socket_in(self, pod: str, family: int, kind: int, protocol: int) -> int:
        """A socket of the pod's network namespace."""
        request = {"op": "socket", "pod": pod, "family": int(family), "type": int(kind), "protocol": protocol}
        _, descriptors = await self._ask(request)
        return descriptors[0]

    async def containers(self) -> list[ContainerState]:
        """All containers that were started and not removed, also those that have ended."""
        result, _ = await self._ask({"op": "containers"})
        return result

    async def pods(self) -> list[PodSpec]:
        """The pods that exist, as they were asked for."""
        result, _ = await self._ask({"op": "pods"})
        return result

    async def describe(self) -> dict[str, Any]:
        """The zygote's pid, tier, control groups and services, for status and for people."""
        result, _ = await self._ask({"op": "describe"})
        return result

    async def stats(self, pod: str) -> dict[str, Usage]:
        """What the running containers of a pod use, by container id. Only from inside the node."""
        used: dict[str, Usage] = {}
        running = [(container, self._pids[container]) for container in sorted(self._pods.get(pod, ()))]
        for container, pid in running:
            group = self._groups.get(container)
            usage = self._cgroups.usage(group) if group else None
            if usage is None:
                usage = await asyncio.to_thread(statistics.usage_beside, pid)
            if usage is not None:
                used[container] = usage
        return used

    async def listen_queue(self, pod: str) -> int:
        """Connections of a pod that are not finished, on the ports where it listens: waiting, or being served.

        In a thread: the kernel goes through its whole table of connections for this. Only from inside the node, whose
        process numbers these are.
        """
        for pid in [self._pids[container] for container in self._pods.get(pod, ())]:
            with contextlib.suppress(OSError):
                return connections.unfinished(await self._sockets_of(pod, pid))
        return 0

    async def _sockets_of(self, pod: str, pid: int) -> list[connections.Row]:
        try:
            asked = await self._socket_in(pod, socket.AF_NETLINK, socket.SOCK_RAW, connections.NETLINK_SOCK_DIAG)
            return await asyncio.to_thread(connections.ask_kernel, asked)
        except (OSError, SandboxError):
            return await asyncio.to_thread(connections.read_tables, pid)

    def on_exit(self, callback: Callable[[ContainerState], None]) -> Callable[[], None]:
        """Call back on the event loop at every end of a container from now on, until what is returned is called."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def _ask(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> _Answer:
        answer, received = await self._line.ask(message, descriptors)
        if "error" in answer:
            wire.close_all(received)
            raise _error(answer["error"])
        return answer["result"], received

    def _know(self, state: ContainerState) -> None:
        self._pods.setdefault(state["pod"], set()).add(state["id"])
        self._pids[state["id"]] = state["pid"]

    def _on_event(self, message: dict[str, Any]) -> None:
        if message["event"] == "exec_exit":
            ended = self._execs.pop(message["number"], None)
            if ended is not None and not ended.done():
                ended.set_result(message["exit_code"])
        elif message["event"] == "exit":
            self._container_ended(message["state"])

    def _container_ended(self, state: ContainerState) -> None:
        container, pod = state["id"], state["pod"]
        self._groups.pop(container, None)
        self._pids.pop(container, None)
        if pod in self._pods:
            self._pods[pod].discard(container)
            if not self._pods[pod]:
                del self._pods[pod]
        for ended in self._ends.pop(container, set()):
            if not ended.done():
                ended.set_result(state.get("exit_code", 0))
        for callback in self._callbacks:
            callback(state)


class HostHelper:
    """The process outside: sockets of the host's network, names as the host resolves them."""

    def __init__(self, connection: socket.socket) -> None:
        self._line = _Line(connection, lambda _: None)

    @classmethod
    async def open(cls, path: str) -> HostHelper:
        """Connect to `run/helper.sock`. Raises `OSError`."""
        return cls(wire.connect(path))

    def close(self) -> None:
        self._line.close()

    async def socket(self, family: int, kind: int) -> socket.socket:
        """A non-blocking socket of the host's network, wherever it is used."""
        _, descriptors = await self._ask({"op": "socket", "family": int(family), "type": int(kind)})
        return socket.socket(fileno=descriptors[0])

    async def listen(self, host: str, port: int, *, backlog: int = 1024) -> socket.socket:
        """A TCP listener on the host; port 0 is any. Raises `OSError` as bind does (EADDRINUSE, EACCES)."""
        created = await self.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            created.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            created.bind((host, port))
            created.listen(backlog)
        except OSError:
            created.close()
            raise
        return created

    async def connect(self, host: str, port: int, timeout: float = 10.0) -> socket.socket:
        """A TCP connection from the host to an address. Raises `OSError`, `TimeoutError`."""
        created = await self.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        async with asyncio.timeout(timeout):
            return await _connected(created, host, port)

    async def resolve(self, name: str) -> list[str]:
        """A name's addresses as the host knows them. Raises `socket.gaierror`."""
        result, _ = await self._ask({"op": "resolve", "name": name})
        return result

    async def status(self) -> dict[str, int]:
        """Pids as the host numbers them: `helper`, `zygote`."""
        result, _ = await self._ask({"op": "status"})
        return result

    async def _ask(self, message: Mapping[str, Any]) -> _Answer:
        answer, received = await self._line.ask(message)
        if "error" in answer:
            wire.close_all(received)
            number, text = answer["error"].get("number"), answer["error"]["message"]
            if message["op"] == "resolve":
                raise socket.gaierror(number, text)
            raise OSError(number or errno.EIO, text)
        return answer["result"], received


async def _connected(connection: socket.socket, host: str, port: int) -> socket.socket:
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (host, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _error(error: Mapping[str, Any]) -> SandboxError:
    if error["kind"] == "StartError":
        return StartError(error["message"], error["exit_code"])
    return _ERRORS.get(error["kind"], SandboxError)(error["message"])


def _pipes(stdin: bool) -> tuple[list[int], list[int | None]]:
    """Descriptors for the process and for us: stdin (or /dev/null), stdout, stderr."""
    inner: list[int] = []
    outer: list[int | None] = []
    if stdin:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        inner.append(reader)
        outer.append(writer)
    else:
        inner.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        outer.append(None)
    for _ in range(2):
        reader, writer = os.pipe2(os.O_CLOEXEC)
        inner.append(writer)
        outer.append(reader)
    return inner, outer


def _resize(terminal: int, width: int, height: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("=HHHH", height, width, 0, 0))
