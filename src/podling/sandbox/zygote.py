"""The zygote: parent of every container, of the daemon and of the proxy; pid 1 of the node's PID namespace.

It is small, single-threaded and never waits for anyone, because everything else may die and this may not: its end is
the end of the node. It forks containers, reaps them, writes their output to log files, keeps what it knows of them
until it is told to forget, and serves any number of clients on `run/zygote.sock`. When the daemon is killed nothing
happens here but that it is started again; the new one connects, lists, and finds the exits that it missed.

Ends of containers are told to all clients as `{"event": "exit", "state": ...}`, ends of execs to whoever asked for
them.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, cast

from podling.sandbox import process, statistics, syscalls, wire
from podling.sandbox.cgroups import Cgroups
from podling.sandbox.logs import DEFAULT_MAX_BYTES, DEFAULT_MAX_FILES, LogFile
from podling.sandbox.loop import Loop
from podling.sandbox.namespaces import PodNetworks, own_namespaces
from podling.sandbox.output import Output, Sink
from podling.sandbox.process import Place, Settings, StartFailure
from podling.sandbox.server import Call, RequestError, Server
from podling.sandbox.services import Service, Supervisor
from podling.sandbox.spec import ContainerSpec, Limits, PodSpec
from podling.sandbox.state import Container, Execution, Pod, StandardStreams, end_of

_REMOVAL_RETRIES = 12
_FIRST_RETRY = 0.005
_MEMORY_INTERVAL = 0.5


class Zygote:
    """All state of the process."""

    def __init__(
        self, *, settings: Settings, cgroups: Cgroups, listener: socket.socket, helper: socket.socket, loop: Loop
    ) -> None:
        self._settings = settings
        self._cgroups = cgroups
        self._helper = helper
        self._loop = loop
        self._networks = PodNetworks(own_namespaces())
        self._own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._pods: dict[str, Pod] = {}
        self._containers: dict[str, Container] = {}
        self._children: dict[int, Callable[[int], None]] = {}
        self._services: list[Supervisor] = []
        self._stopping = False
        self._watching_memory = False
        operations: dict[str, Callable[[Call], None]] = {
            "attach": self._attach,
            "containers": self._list_containers,
            "create_pod": self._create_pod,
            "describe": self._describe,
            "exec": self._exec,
            "freeze": self._freeze,
            "pods": self._list_pods,
            "remove": self._remove,
            "remove_pod": self._remove_pod,
            "signal": self._signal,
            "signal_exec": self._signal_exec,
            "socket": self._socket,
            "start": self._start,
            "update": self._update,
        }
        self._server = Server(loop, listener, operations)

    def run(self, services: Sequence[Service]) -> None:
        """Serve until the node is stopped."""
        self._loop.on_signals({signal.SIGCHLD: self._reap, signal.SIGTERM: lambda: self._stop(0)})
        self._loop.watch(self._helper.fileno(), self._hear_helper)
        for service in services:
            supervisor = Supervisor(service, self._loop, self._adopt)
            self._services.append(supervisor)
            supervisor.start()
        gc.freeze()
        self._loop.run()

    # Pods

    def _create_pod(self, call: Call) -> None:
        spec = cast(PodSpec, call.message["spec"])
        if spec["id"] in self._pods:
            raise RequestError("AlreadyExists", f"pod {spec['id']} exists")
        shared = self._pod(spec["network"]).namespaces if "network" in spec else None
        namespaces = self._networks.create(spec, shared)
        pod = Pod(spec, namespaces, None)
        try:
            self._cgroups.create(pod.group, spec.get("limits", {}))
            if spec.get("share_pid"):
                self._start_pause(pod)
        except OSError:
            self._networks.remove(spec, namespaces)
            self._cgroups.remove(pod.group)
            raise
        self._pods[spec["id"]] = pod
        self._server.answer(call, None)

    def _start_pause(self, pod: Pod) -> None:
        """The first process of a shared PID namespace: it reaps, and holds the namespace while containers restart."""
        ready, told = os.pipe2(os.O_CLOEXEC)
        syscalls.unshare(syscalls.CLONE_NEWPID)
        try:
            pid = os.fork()
            if pid == 0:
                _pause()
        finally:
            syscalls.setns(self._own_pid_namespace)
            os.close(told)
        os.read(ready, 1)  # ends when it runs under its own name and has let go of our descriptors
        os.close(ready)
        pod.pause = pid
        pod.pid_namespace = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        pod.running.add(pid)
        self._adopt(pid, lambda _: self._left(pod, pid))

    def _remove_pod(self, call: Call) -> None:
        pod = self._pods.get(call.message["pod"])
        if pod is None:
            self._server.answer(call, None)
            return
        if pod.removal is None:
            pod.removal = []
            for pid in pod.running:
                os.kill(pid, signal.SIGKILL)
            self._kill_group(pod.group)
        pod.removal.append(call)
        self._finish_removal(pod)

    def _left(self, pod: Pod, pid: int) -> None:
        pod.running.discard(pid)
        if pod.removal is not None:
            self._finish_removal(pod)

    def _finish_removal(self, pod: Pod) -> None:
        if pod.running or self._pods.get(pod.spec["id"]) is not pod:
            return
        del self._pods[pod.spec["id"]]
        for container in [c for c in self._containers.values() if c.pod is pod]:
            del self._containers[container.spec["id"]]
        if pod.pid_namespace is not None:
            os.close(pod.pid_namespace)
        self._networks.remove(pod.spec, pod.namespaces)
        self._remove_group(pod.group, lambda: [self._server.answer(call, None) for call in pod.removal or []])

    def _remove_group(self, group: str, done: Callable[[], object] = lambda: None, attempt: int = 0) -> None:
        """Remove a control group; the kernel may need a moment to let go of its last process."""
        if self._cgroups.remove(group) or attempt >= _REMOVAL_RETRIES:
            done()
            return
        self._kill_group(group)
        self._loop.later(_FIRST_RETRY * 2**attempt, lambda: self._remove_group(group, done, attempt + 1))

    def _kill_group(self, group: str) -> None:
        with contextlib.suppress(OSError):
            self._cgroups.freeze(group, frozen=False)
        for pid in self._cgroups.processes(group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # Containers

    def _start(self, call: Call) -> None:
        spec = cast(ContainerSpec, call.message["spec"])
        pod = self._pod(spec["pod"])
        if spec["id"] in self._containers:
            raise RequestError("AlreadyExists", f"container {spec['id']} exists")
        group = f"{pod.group}/{spec['id']}"
        new, existing = self._pid_namespace_of(pod, spec.get("target"))
        self._cgroups.create(group, spec.get("limits", {}))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pipes = StandardStreams(spec)

        def work() -> None:
            place = Place(pod.namespaces, self._cgroups, group)
            process.run_container(spec, self._settings, place, pipes.inner, theirs)

        try:
            pid = self._fork(work, theirs, new=new, existing=existing)
        finally:
            pipes.close_inner()
            theirs.close()
            if existing is not None and existing != pod.pid_namespace:
                os.close(existing)
        ours.setblocking(False)
        container = Container(spec, pod, pid, ours, call)
        container.stdin = pipes.stdin
        container.started_at = time.time()
        self._containers[spec["id"]] = container
        pod.running.add(pid)
        if "log_path" in spec:
            container.log = LogFile(
                spec["log_path"],
                spec.get("log_max_bytes", DEFAULT_MAX_BYTES),
                spec.get("log_max_files", DEFAULT_MAX_FILES),
            )
        for stream, descriptor in pipes.outer.items():
            container.outputs.append(Output(stream, descriptor, container.log, self._loop))
        self._adopt(pid, lambda status: self._container_ended(container, status))
        self._loop.watch(ours.fileno(), lambda _: self._hear_status(container))

    def _limit_memory(self, container: Container) -> None:
        limit = container.spec.get("limits", {}).get("memory_bytes", 0)
        if (
            not limit
            or self._cgroups.limits_memory()
            or container.pod.pid_namespace
            or container.pod.spec.get("host_pid")
            or container.spec.get("target")
        ):
            return
        with contextlib.suppress(OSError):  # it has ended already
            container.pid_namespace = os.readlink(f"/proc/{container.pid}/ns/pid")
            container.memory_limit = limit
            if not self._watching_memory:
                self._watching_memory = True
                self._loop.later(_MEMORY_INTERVAL, self._watch_memory)

    def _watch_memory(self) -> None:
        """Stand in for the kernel where no control group limits memory: end what holds more than it may."""
        limited = [c for c in self._containers.values() if c.end is None and c.memory_limit]
        if limited:
            held = statistics.memory_by_pid_namespace()
            for container in limited:
                if held.get(container.pid_namespace, 0) > container.memory_limit:
                    container.out_of_memory = True
                    os.kill(container.pid, signal.SIGKILL)
            self._loop.later(_MEMORY_INTERVAL, self._watch_memory)
        self._watching_memory = bool(limited)

    def _pid_namespace_of(self, pod: Pod, target: str | None) -> tuple[bool, int | None]:
        """(whether a new one is made, the descriptor of an existing one, the caller's if there is a target)."""
        if target is not None:
            beside = self._container(target)
            if beside.end is not None or beside.pod is not pod:
                raise RequestError("NotFound", f"container {target} is not running")
            return False, os.open(f"/proc/{beside.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        if pod.spec.get("host_pid"):
            return False, None
        return pod.pid_namespace is None, pod.pid_namespace

    def _fork(self, work: Callable[[], None], status: socket.socket, new: bool, existing: int | None) -> int:
        """Fork a child into a PID namespace: only children enter one, the zygote itself stays in its own."""
        if new:
            syscalls.unshare(syscalls.CLONE_NEWPID)
        elif existing is not None:
            syscalls.setns(existing)
        try:
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                process.reporting(status, work)
        finally:
            syscalls.setns(self._own_pid_namespace)
        return pid

    def _hear_status(self, container: Container) -> None:
        """The start's outcome: a terminal, a failure, or the end of the channel, which is success."""
        status = container.status
        if status is None:
            return
        try:
            received = wire.receive(status)
        except BlockingIOError:
            return
        if received is not None:
            message, descriptors = received
            if "pty" in message:
                container.outputs.append(Output("stdout", descriptors[0], container.log, self._loop))
                return
            container.failure = StartFailure(message["error"], message["exit_code"])
        self._loop.forget(status.fileno())
        status.close()
        container.status = None
        if container.failure is None and container.starting is not None:
            container.started_at = time.time()
            self._limit_memory(container)
            self._server.answer(container.starting, {**container.state(), "group": container.group})
            container.starting = None

    def _container_ended(self, container: Container, status: int) -> None:
        while container.status is not None:
            self._hear_status(container)
        for output in container.outputs:
            output.finish()
        if container.stdin >= 0:
            os.close(container.stdin)
            container.stdin = -1
        if container.log is not None:
            container.log.close()
        container.end = end_of(status)
        if container.out_of_memory or self._cgroups.oom_kills(container.group):
            container.end["oom_killed"] = True
        self._kill_group(container.group)
        self._remove_group(container.group)
        if container.failure is not None:
            self._containers.pop(container.spec["id"], None)
            if container.starting is not None:
                failure = container.failure
                self._server.fail(container.starting, "StartError", failure.message, exit_code=failure.exit_code)
        else:
            self._server.tell_all({"event": "exit", "state": container.state()})
        self._left(container.pod, container.pid)

    def _signal(self, call: Call) -> None:
        container = self._container(call.message["container"])
        if container.end is None:
            os.kill(container.pid, call.message["signal"])
            if container.frozen and call.message["signal"] == signal.SIGKILL:
                self._set_frozen(container, frozen=False)  # what is frozen by a v1 freezer does not even die
        self._server.answer(call, None)

    def _freeze(self, call: Call) -> None:
        """Stop or continue all processes of a container."""
        container = self._container(call.message["container"])
        if container.end is None:
            self._set_frozen(container, frozen=bool(call.message["frozen"]))
        self._server.answer(call, None)

    def _set_frozen(self, container: Container, *, frozen: bool) -> None:
        container.frozen = frozen
        if self._cgroups.freeze(container.group, frozen):
            return
        for pid in statistics.processes_beside(container.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def _update(self, call: Call) -> None:
        """Give a pod's group, or a running container's, other limits."""
        limits = cast(Limits, call.message["limits"])
        if "container" not in call.message:
            self._set_limits(self._pod(call.message["pod"]).group, limits)
        else:
            container = self._container(call.message["container"])
            if container.end is None:
                self._set_limits(container.group, limits)
                container.spec["limits"] = {**container.spec.get("limits", {}), **limits}
                self._limit_memory(container)
        self._server.answer(call, None)

    def _set_limits(self, group: str, limits: Limits) -> None:
        try:
            self._cgroups.update(group, limits)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise RequestError("Conflict", "attempting to set memory limit below current usage") from error

    def _remove(self, call: Call) -> None:
        container = self._containers.get(call.message["container"])
        if container is not None:
            if container.end is None:
                raise RequestError("Conflict", f"container {container.spec['id']} is running")
            del self._containers[container.spec["id"]]
        self._server.answer(call, None)

    def _attach(self, call: Call) -> None:
        """Answers with descriptors named in the result: `stdout`, `stderr` to read, `stdin` to write, `tty` as both."""
        container = self._container(call.message["container"])
        names: list[str] = []
        descriptors: list[int] = []
        for output in container.outputs:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            output.attach(Sink(writer, self._loop))
            names.append(output.stream)
            descriptors.append(reader)
            if container.spec["tty"] and output.descriptor >= 0:
                names.append("tty")
                descriptors.append(os.dup(output.descriptor))
        if container.stdin >= 0:
            names.append("stdin")
            descriptors.append(container.stdin if container.spec.get("stdin_once") else os.dup(container.stdin))
            if container.spec.get("stdin_once"):
                container.stdin = -1
        end = container.end or {}
        self._server.answer(call, {"streams": names, "exit_code": end.get("exit_code")}, descriptors)

    def _exec(self, call: Call) -> None:
        """Run another command in a container, on the descriptors that came with the request (none for a terminal)."""
        container = self._container(call.message["container"])
        if container.end is not None or container.starting is not None:
            raise RequestError("NotFound", f"container {container.spec['id']} is not running")
        overlay = cast(ContainerSpec, call.message["spec"])
        spec = cast(ContainerSpec, {**container.spec, **overlay})
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pidfd = os.pidfd_open(container.pid)
        namespace = os.open(f"/proc/{container.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

        def work() -> None:
            place = Place((), self._cgroups, container.group)
            process.run_in_container(spec, self._settings, place, pidfd, call.descriptors, theirs)

        try:
            pid = self._fork(work, theirs, new=False, existing=namespace)
        finally:
            theirs.close()
            os.close(pidfd)
            os.close(namespace)
        ours.setblocking(False)
        execution = Execution(pid, call, ours)
        container.pod.running.add(pid)
        self._loop.watch(ours.fileno(), lambda _: self._hear_execution(execution))

        def ended(status: int) -> None:
            while execution.status is not None:
                self._hear_execution(execution)
            if not execution.failed:
                event = {"event": "exec_exit", "number": call.message["number"], "pid": pid, **end_of(status)}
                self._server.send(call.client, event)
            self._left(container.pod, pid)

        self._adopt(pid, ended)

    def _hear_execution(self, execution: Execution) -> None:
        status = execution.status
        if status is None:
            return
        try:
            received = wire.receive(status)
        except BlockingIOError:
            return
        if received is not None:
            message, descriptors = received
            if "pty" in message:
                execution.terminal = descriptors
                return
            execution.failed = True
            self._server.fail(execution.call, "StartError", message["error"], exit_code=message["exit_code"])
        else:
            self._server.answer(execution.call, {"pid": execution.pid}, execution.terminal)
        self._loop.forget(status.fileno())
        status.close()
        execution.status = None

    def _signal_exec(self, call: Call) -> None:
        if call.message["pid"] in self._children:
            os.kill(call.message["pid"], call.message["signal"])
        self._server.answer(call, None)

    # Questions

    def _list_pods(self, call: Call) -> None:
        self._server.answer(call, [pod.spec for pod in self._pods.values()])

    def _list_containers(self, call: Call) -> None:
        self._server.answer(call, [c.state() for c in self._containers.values() if c.starting is None])

    def _describe(self, call: Call) -> None:
        """What another process of the node needs to look at control groups and services by itself."""
        self._server.answer(
            call,
            {
                "pid": os.getpid(),
                "tier": self._settings.tier,
                "cgroups": self._cgroups.describe(),
                "groups": {c.spec["id"]: c.group for c in self._containers.values() if c.end is None},
                "services": {s.name: {"pid": s.pid, "starts": s.starts} for s in self._services},
            },
        )

    def _socket(self, call: Call) -> None:
        """A new socket in a pod's network namespace; connecting it is the caller's affair, so nobody waits here."""
        pod = self._pod(call.message["pod"])
        wanted = (call.message[name] for name in ("family", "type", "protocol"))
        created = self._networks.socket_in(pod.namespaces, *wanted)
        self._server.answer(call, None, [created.detach()])

    def _pod(self, name: str) -> Pod:
        pod = self._pods.get(name)
        if pod is None or pod.removal is not None:
            raise RequestError("NotFound", f"pod {name} not found")
        return pod

    def _container(self, name: str) -> Container:
        container = self._containers.get(name)
        if container is None:
            raise RequestError("NotFound", f"container {name} not found")
        return container

    # Children and the end

    def _adopt(self, pid: int, ended: Callable[[int], None]) -> None:
        self._children[pid] = ended

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            ended = self._children.pop(pid, None)
            if ended is not None:  # else an orphan of the node's own processes
                ended(status)
        if self._stopping and not any(service.pid for service in self._services):
            os._exit(0)

    def _hear_helper(self, _: int) -> None:
        received = wire.receive(self._helper)
        if received is None:
            os._exit(0)
        message, descriptors = received
        wire.close_all(descriptors)
        if message.get("op") == "stop":
            self._stop(float(message.get("grace", 0)))

    def _stop(self, grace: float) -> None:
        """End the services, at most `grace` s, then everything: the kernel kills what pid 1 leaves behind."""
        self._stopping = True
        for container in self._containers.values():
            if container.frozen:
                self._set_frozen(container, frozen=False)  # what is frozen by a v1 freezer does not even die
        for service in self._services:
            service.stop()
        self._loop.later(grace, lambda: os._exit(0))
        self._reap()


def _pause() -> NoReturn:
    """Reap orphans for ever."""
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.set_process_name("pause")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        while True:
            signal.pause()
    finally:
        os._exit(1)
