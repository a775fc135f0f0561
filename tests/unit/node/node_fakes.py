"""A machine made of dictionaries, and a clock that jumps: what the node's tests run against."""

from __future__ import annotations

import asyncio
import selectors
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podling.api.errors import conflict, not_found
from podling.clock import FastClock, SystemClock
from podling.images.config import ImageConfig
from podling.images.errors import ImageError
from podling.images.references import parse_image
from podling.node.naming import Resolver
from podling.node.node import Node
from podling.node.surroundings import Surroundings
from podling.sandbox.client import NotFound, SandboxError, StartError
from podling.sandbox.spec import ContainerSpec, ContainerState, Limits, PodSpec
from podling.store.types import Change, ChangeType, Entry, Key, Object

EPOCH = 1_790_000_000.0


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the clock to it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout:
            self.now += timeout + 1e-9  # a sum of floats may fall short of the timer
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.create_future()
        future.set_result(func(*args))
        return future


def run_virtually(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work())


def now() -> float:
    return EPOCH + asyncio.get_running_loop().time()


class FakeSubscription:
    def __init__(self, close: Callable[[], None]) -> None:
        self.close = close


class FakeClient:
    """A store of objects with resource versions."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.writes: list[tuple[str, str, Object]] = []
        self._revision = 0
        self._handlers: list[tuple[str, Callable[[Change], None]]] = []

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.objects.get(Key(resource, namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> list[Object]:
        return [o for k, o in self.objects.items() if k.resource == resource and namespace in (None, k.namespace)]

    def subscribe(self, resource: str, handler: Callable[[Change], None]) -> FakeSubscription:
        entry = (resource, handler)
        self._handlers.append(entry)
        for key, obj in list(self.objects.items()):
            if key.resource == resource:
                handler(Change(ChangeType.ADDED, Entry(key, 0, b"", obj), None))
        return FakeSubscription(lambda: self._handlers.remove(entry))

    def put(self, resource: str, obj: Object) -> Object:
        self._revision += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self._revision)}
        obj = {**obj, "metadata": metadata}
        key = Key(resource, metadata.get("namespace", ""), metadata["name"])
        kind = ChangeType.MODIFIED if key in self.objects else ChangeType.ADDED
        self.objects[key] = obj
        self._publish(kind, key, obj)
        return obj

    def drop(self, resource: str, namespace: str, name: str) -> None:
        key = Key(resource, namespace, name)
        self._publish(ChangeType.DELETED, key, self.objects.pop(key))

    def _publish(self, kind: ChangeType, key: Key, obj: Object) -> None:
        for resource, handler in list(self._handlers):
            if resource == key.resource:
                handler(Change(kind, Entry(key, self._revision, b"", obj), None))

    async def create(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        if subresource == "token":
            return {"status": {"token": f"token-{self._revision}", "expirationTimestamp": "2100-01-01T00:00:00Z"}}
        return self.put(resource, obj)

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        metadata = obj["metadata"]
        old = self.get(resource, metadata.get("namespace", ""), metadata["name"])
        if old is None:
            raise not_found(resource, "", metadata["name"])
        if metadata["resourceVersion"] != old["metadata"]["resourceVersion"]:
            raise conflict(resource, "", metadata["name"], "modified")
        self.writes.append((resource, metadata["name"], obj))
        return self.put(resource, obj)

    async def update_status(self, resource: str, obj: Object) -> Object:
        return await self.update(resource, obj, subresource="status")

    async def patch(self, resource: str, namespace: str, name: str, patch: Any, **_: Any) -> Object:
        old = self.get(resource, namespace, name)
        if old is None:
            raise not_found(resource, "", name)
        return self.put(resource, {**old, **{key: value for key, value in patch.items() if key != "metadata"}})

    async def delete(
        self,
        resource: str,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
        **_: Any,
    ) -> Object:
        old = self.get(resource, namespace, name)
        if old is None:
            raise not_found(resource, "", name)
        if grace_seconds == 0:
            self.drop(resource, namespace, name)
            return old
        seconds = old["spec"].get("terminationGracePeriodSeconds", 30)
        metadata = {
            **old["metadata"],
            "deletionTimestamp": "2026-09-21T00:00:00Z",
            "deletionGracePeriodSeconds": seconds,
        }
        return self.put(resource, {**old, "metadata": metadata})


class FakeRecorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def __call__(self, regarding: Object, type: str, reason: str, message: str, **_: str) -> None:
        self.events.append((type, reason, message))

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.events]


class FakeExec:
    stdin = stdout = stderr = None

    def __init__(self, code: int, seconds: float = 0.0) -> None:
        self.code, self.seconds, self.killed = code, seconds, False

    async def wait(self) -> int:
        await asyncio.sleep(self.seconds)
        return self.code

    async def resize(self, width: int, height: int) -> None: ...

    async def kill(self) -> None:
        self.killed = True


@dataclass
class FakeSandbox:
    """Containers run until told to end. `journal` is everything that was asked, in order."""

    journal: list[str] = field(default_factory=list)
    specs: dict[str, ContainerSpec] = field(default_factory=dict)
    states: dict[str, ContainerState] = field(default_factory=dict)
    pod_specs: dict[str, PodSpec] = field(default_factory=dict)
    failures: dict[str, StartError] = field(default_factory=dict)
    """By the container's first argument."""
    update_failures: list[SandboxError] = field(default_factory=lambda: list[SandboxError]())
    ignores_term: bool = False
    queue: list[int] = field(default_factory=list)
    exec_result: Callable[[Sequence[str]], FakeExec] = lambda _command: FakeExec(0)
    callback: Callable[[ContainerState], None] = lambda _state: None

    async def create_pod(self, spec: PodSpec) -> None:
        self.journal.append(f"create pod {spec['id']}")
        self.pod_specs[spec["id"]] = spec

    async def remove_pod(self, pod: str) -> None:
        self.journal.append(f"remove pod {pod}")
        self.pod_specs.pop(pod, None)

    async def start(self, spec: ContainerSpec) -> ContainerState:
        self.journal.append(f"start {spec['args'][0]}")
        if spec["args"][0] in self.failures:
            raise self.failures[spec["args"][0]]
        self.specs[spec["id"]] = spec
        self.states[spec["id"]] = ContainerState(id=spec["id"], pod=spec["pod"], pid=1, started_at=now())
        return self.states[spec["id"]]

    async def signal(self, container: str, number: int) -> None:
        if container not in self.states:
            raise NotFound(container)
        self.journal.append(f"{signal.Signals(number).name} {self.specs[container]['args'][0]}")
        if number == signal.SIGKILL or not self.ignores_term:
            self.finish(container, 128 + number)

    async def update(self, pod: str, limits: Limits, container: str = "") -> None:
        if container and self.update_failures:
            raise self.update_failures.pop()
        if container:
            self.specs[container]["limits"] = limits
        self.journal.append(f"update {self.specs[container]['args'][0] if container else 'pod'}")

    async def remove(self, container: str) -> None:
        self.states.pop(container, None)

    async def exec(self, container: str, args: Sequence[str], **_: Any) -> FakeExec:
        self.journal.append(f"exec {' '.join(args)}")
        return self.exec_result(args)

    async def attach(self, container: str) -> FakeExec:
        return FakeExec(0)

    async def dial(self, pod: str, port: int, host: str = "127.0.0.1") -> socket.socket:
        raise ConnectionRefusedError

    async def containers(self) -> list[ContainerState]:
        return list(self.states.values())

    async def pods(self) -> list[PodSpec]:
        return list(self.pod_specs.values())

    async def stats(self, pod: str) -> Mapping[str, Any]:
        return {}

    async def listen_queue(self, pod: str) -> int:
        self.journal.append("listen queue")
        return self.queue.pop(0) if self.queue else 0

    async def freeze(self, container: str, frozen: bool) -> None:
        self.journal.append(f"{'freeze' if frozen else 'thaw'} {container}")

    def on_exit(self, callback: Callable[[ContainerState], None]) -> Callable[[], None]:
        self.callback = callback
        return lambda: setattr(self, "callback", lambda _state: None)

    # The test's hands

    def id_of(self, program: str) -> str:
        """Of the newest container that runs it."""
        return [id for id, spec in self.specs.items() if spec["args"][0] == program][-1]

    def finish(self, container: str, code: int) -> None:
        state = self.states[container]
        if "exit_code" in state:
            return
        self.states[container] = {**state, "exit_code": code, "finished_at": now()}
        self.callback(self.states[container])

    def end(self, program: str, code: int) -> None:
        self.finish(self.id_of(program), code)


@dataclass
class FakeNetwork:
    journal: list[str]
    gateway: str = "10.244.0.1"
    nameservers: Sequence[str] = ("10.96.0.10",)
    cluster_domain: str = "cluster.local"
    addresses: dict[str, str] = field(default_factory=dict)

    def allocate(self, pod_uid: str) -> str:
        return self.addresses.setdefault(pod_uid, f"10.244.0.{len(self.addresses) + 2}")

    def restore(self, pod_uid: str, ip: str) -> None:
        self.addresses[pod_uid] = ip

    def release(self, pod_uid: str) -> None:
        self.addresses.pop(pod_uid, None)

    async def attach(self, ip: str, host_ports: Sequence[tuple[str, int, int]] = ()) -> None:
        self.journal.append(f"attach {ip}")

    async def detach(self, ip: str) -> None:
        self.journal.append(f"detach {ip}")

    async def withdraw(self, ip: str) -> None:
        self.journal.append(f"withdraw {ip}")

    async def admit(self, ip: str) -> None:
        self.journal.append(f"admit {ip}")


@dataclass
class FakeImage:
    id: str = "sha256:" + "1" * 64
    config: ImageConfig = field(default_factory=lambda: ImageConfig(cmd=("serve",), env=("FROM_IMAGE=yes",)))
    lowers: Sequence[str] = ()
    host_base: bool = False
    host_paths: Sequence[str] = ()
    note: str = ""


@dataclass
class FakeImages:
    images: dict[str, FakeImage] = field(default_factory=lambda: {"app:v1": FakeImage()})
    pulls: int = 0

    def present(self, reference: str, policy: str) -> FakeImage | None:
        parse_image(reference)
        return self.images.get(reference)

    async def pull(self, reference: str, policy: str, pull_secrets: Sequence[Mapping[str, Any]]) -> FakeImage:
        self.pulls += 1
        raise ImageError("ErrImagePull", "no such image")

    def size(self, image: Any) -> int:
        return 1000


@dataclass
class Rig:
    """One machine, ready for a node."""

    client: FakeClient
    recorder: FakeRecorder
    sandbox: FakeSandbox
    network: FakeNetwork
    images: FakeImages
    surroundings: Surroundings

    def pod(self, name: str = "web", namespace: str = "default") -> Object:
        pod = self.client.get("pods", namespace, name)
        assert pod is not None, f"pod {name} is gone"
        return pod

    def container(self, index: int = 0, field: str = "containerStatuses") -> Object:
        return self.pod()["status"][field][index]

    def condition(self, type: str) -> Object:
        return next(c for c in self.pod()["status"]["conditions"] if c["type"] == type)


def make_rig(directory: Path, pace: float = 1.0) -> Rig:
    sandbox = FakeSandbox()
    client, recorder, images = FakeClient(), FakeRecorder(), FakeImages()
    network = FakeNetwork(sandbox.journal)
    numbers = iter(range(1, 10_000))
    surroundings = Surroundings(
        client=client,  # pyright: ignore[reportArgumentType]
        recorder=recorder,
        sandbox=sandbox,
        network=network,
        images=images,  # pyright: ignore[reportArgumentType]
        directory=directory,
        node_name="node1",
        host_ip="10.244.0.1",
        host_sandbox="",
        allocatable=lambda: {"cpu": "2", "memory": "4Gi"},
        neighbours=lambda: (),
        host_resolver=Resolver(("192.0.2.1",)),
        clock=SystemClock(now) if pace == 1 else FastClock(EPOCH, pace, now),
        new_id=lambda: f"{next(numbers):064x}",
        matches_node=lambda pod, node: pod["spec"].get("nodeSelector") in (None, node["metadata"].get("labels")),
    )
    return Rig(client, recorder, sandbox, network, images, surroundings)


Story = Callable[[Rig], Awaitable[None]]


def teller(directory: Path, *nodes: Object, pace: float = 1.0) -> Callable[[Story], None]:
    """Runs stories on a node that has started, each in virtual time. `nodes` are in the store before it."""

    def tell(story: Story) -> None:
        async def main() -> None:
            rig = make_rig(directory, pace)
            for obj in nodes:
                rig.client.put("nodes", obj)
            node = Node(rig.surroundings)
            await node.start()
            try:
                await story(rig)
            finally:
                await node.stop()

        run_virtually(main)

    return tell


def make_pod(name: str = "web", **spec: Any) -> Object:
    containers = spec.pop("containers", [{"name": "app", "image": "app:v1"}])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "generation": 1},
        "spec": {
            "nodeName": "node1",
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "containers": containers,
            **spec,
        },
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Lets virtual time pass until something is true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            if condition():
                return
        except (AssertionError, KeyError, IndexError, StopIteration):
            pass
        assert loop.time() < deadline, "it did not become true"
        await asyncio.sleep(0.01)
