"""What the zygote remembers of pods, containers and commands in them."""

from __future__ import annotations

import os
import socket
import time
from typing import Any, cast

from podling.sandbox import wire
from podling.sandbox.logs import LogFile
from podling.sandbox.namespaces import Namespaces
from podling.sandbox.output import Output
from podling.sandbox.process import StartFailure
from podling.sandbox.server import Call
from podling.sandbox.spec import ContainerSpec, ContainerState, PodSpec


class Pod:
    """A sandbox and what runs in it."""

    def __init__(self, spec: PodSpec, namespaces: Namespaces, pid_namespace: int | None) -> None:
        self.spec = spec
        self.namespaces = namespaces
        self.pid_namespace = pid_namespace
        """Of pods whose containers share one."""
        self.pause: int | None = None
        self.running: set[int] = set()
        """Pids of containers and execs that are not reaped yet."""
        self.removal: list[Call] | None = None
        """Who waits for the end of the pod."""

    @property
    def group(self) -> str:
        return self.spec.get("cgroup") or f"pod{self.spec['id']}"


class Container:
    """A container from the request to start it until it is forgotten."""

    def __init__(self, spec: ContainerSpec, pod: Pod, pid: int, status: socket.socket, call: Call | None) -> None:
        self.spec = spec
        self.pod = pod
        self.pid = pid
        self.status: socket.socket | None = status
        """Open until the command is executed."""
        self.starting = call
        self.failure: StartFailure | None = None
        self.stdin = -1
        self.outputs: list[Output] = []
        self.log: LogFile | None = None
        self.started_at = 0.0
        self.frozen = False
        self.memory_limit = 0
        """Bytes that the zygote itself watches over; 0: nobody, or the kernel."""
        self.pid_namespace = ""
        self.out_of_memory = False
        self.end: dict[str, Any] | None = None

    @property
    def group(self) -> str:
        return f"{self.pod.group}/{self.spec['id']}"

    def state(self) -> ContainerState:
        state: dict[str, Any] = {
            "id": self.spec["id"],
            "pod": self.spec["pod"],
            "pid": self.pid,
            "started_at": self.started_at,
        }
        return cast(ContainerState, {**state, **(self.end or {})})


class Execution:
    """A command in a running container, until it is executed."""

    def __init__(self, pid: int, call: Call, status: socket.socket) -> None:
        self.pid = pid
        self.call = call
        self.status: socket.socket | None = status
        self.terminal: list[int] = []
        self.failed = False


class StandardStreams:
    """The pipes of a container without a terminal."""

    def __init__(self, spec: ContainerSpec) -> None:
        self.inner: list[int] = []
        self.outer: dict[str, int] = {}
        self.stdin = -1
        if spec["tty"]:
            return
        stdin = -1
        if spec["stdin"]:
            stdin, self.stdin = os.pipe2(os.O_CLOEXEC)
        self.inner.append(stdin)
        for name in ("stdout", "stderr"):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reader, False)
            self.outer[name] = reader
            self.inner.append(writer)

    def close_inner(self) -> None:
        wire.close_all([descriptor for descriptor in self.inner if descriptor >= 0])


def end_of(status: int) -> dict[str, Any]:
    """The end of a process as container states tell it."""
    code = os.waitstatus_to_exitcode(status)
    end: dict[str, Any] = {"finished_at": time.time(), "exit_code": code if code >= 0 else 128 - code}
    if code < 0:
        end["signal"] = -code
    return end
