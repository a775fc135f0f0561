"""Pods on a real node: this program is the node's daemon, with a store of dictionaries instead of the API.

`python -m support.node_stories DIRECTORY` runs inside the node's namespaces as a service of the zygote; a test
asks it over `DIRECTORY/story.sock` for one story at a time and gets what it saw as JSON. Killed with -9, it is started
again by the zygote, and its next incarnation adopts the pods: the store lives on in a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
from node_fakes import FakeClient, FakeImage, FakeImages, FakeNetwork, FakeRecorder, Rig, make_pod

from podling.clock import SystemClock
from podling.images.config import ImageConfig
from podling.network.layout import Layout
from podling.network.node_links import prepare_node
from podling.node.logs import LogOptions
from podling.node.naming import Resolver
from podling.node.node import Node
from podling.node.surroundings import Surroundings
from podling.sandbox.client import Sandbox
from podling.store.types import Key, Object

PATIENCE = 30.0
PYTHON = str(Path(sys.executable).resolve())


class LastingClient(FakeClient):
    """A store that survives its process: what the daemon's database is."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        if file.exists():
            self.objects = {Key(*key): obj for key, obj in orjson.loads(file.read_bytes())}
            self._revision = 1_000_000 + int(time.time())

    def put(self, resource: str, obj: Object) -> Object:
        written = super().put(resource, obj)
        self._save()
        return written

    def drop(self, resource: str, namespace: str, name: str) -> None:
        super().drop(resource, namespace, name)
        self._save()

    def _save(self) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_bytes(orjson.dumps([(list(key), obj) for key, obj in self.objects.items()]))
        temporary.rename(self._file)


class Machine:
    """The rig of a story, and the node on it."""

    def __init__(self, rig: Rig, node: Node) -> None:
        self.rig = rig
        self.node = node

    async def until(self, condition: Callable[[], Any], pause: float = 0.01) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if condition():
                    return
            except (KeyError, IndexError, StopIteration, AssertionError):
                pass
            if time.monotonic() > deadline:
                states = {k.name: o.get("status") for k, o in self.rig.client.objects.items() if k.resource == "pods"}
                raise AssertionError(json.dumps({"states": states, "events": self.rig.recorder.events}, indent=1))
            await asyncio.sleep(pause)

    def status(self, name: str) -> Object:
        return self.rig.pod(name)["status"]

    def ready(self, name: str) -> bool:
        return any(c["type"] == "Ready" and c["status"] == "True" for c in self.status(name)["conditions"])

    def exit_code(self, name: str) -> int:
        return self.status(name)["containerStatuses"][0]["state"]["terminated"]["exitCode"]

    async def output(self, name: str, **options: Any) -> str:
        wanted = LogOptions(**{"container": "app", **options})
        return b"".join([chunk async for chunk in self.node.logs("default", name, wanted)]).decode()

    async def shell(self, name: str, script: str, **spec: Any) -> str:
        """Runs a script in a pod of its own to the end; its output."""
        fields = spec.pop("container", {})
        container = {"name": "app", "image": "app:v1", "command": ["sh", "-c", script], **fields}
        self.rig.client.put("pods", make_pod(name, containers=[container], restartPolicy="Never", **spec))
        await self.until(lambda: self.status(name)["phase"] in ("Succeeded", "Failed"))
        return await self.output(name)

    async def delete(self, name: str) -> float:
        """Gracefully; how many seconds it took."""
        began = time.monotonic()
        await self.rig.client.delete("pods", "default", name)
        await self.until(lambda: self.rig.client.get("pods", "default", name) is None)
        return time.monotonic() - began


Story = Callable[[Machine], Awaitable[Any]]


async def plain(machine: Machine) -> Any:
    began = time.monotonic()
    server = {"name": "app", "image": "app:v1", "command": [PYTHON, "-m", "http.server", "8080"]}
    server["readinessProbe"] = {"httpGet": {"port": 8080}, "periodSeconds": 10}
    machine.rig.client.put("pods", make_pod("plain", containers=[server], terminationGracePeriodSeconds=1))
    await machine.until(lambda: machine.ready("plain"))
    took = time.monotonic() - began
    status = machine.status("plain")
    connection = await machine.node.dial("default", "plain", 8080)
    connection.close()
    gone = await machine.delete("plain")
    return {"ready after": took, "gone after": gone, "status": status, "events": machine.rig.recorder.reasons}


async def quick(machine: Machine) -> Any:
    """How long a pod takes whose program is there at once."""
    times: list[float] = []
    for number in range(10):
        began = time.monotonic()
        container = {"name": "app", "image": "app:v1", "command": ["sleep", "1000"]}
        machine.rig.client.put("pods", make_pod(f"q{number}", containers=[container], terminationGracePeriodSeconds=0))
        await machine.until(lambda name=f"q{number}": machine.ready(name), pause=0.001)
        times.append(time.monotonic() - began)
    for number in range(10):
        await machine.delete(f"q{number}")
    return sorted(times)


async def volumes(machine: Machine) -> Any:
    put = machine.rig.client.put
    put("configmaps", {"metadata": {"name": "cfg", "namespace": "default"}, "data": {"k": "v", "deep": "d"}})
    put("secrets", {"metadata": {"name": "sec", "namespace": "default"}, "data": {"s": "eA=="}})
    mounts = [{"name": n, "mountPath": f"/v/{n}"} for n in ("e", "m", "c", "ci", "s", "d", "pr")]
    mounts += [
        {"name": "c", "mountPath": "/f", "subPath": "k"},
        {"name": "e", "mountPath": "/sub", "subPathExpr": "sub-$(N)"},
        {"name": "e", "mountPath": "/ro", "readOnly": True},
    ]
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
    field = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    listed = [
        {"name": "e", "emptyDir": {}},
        {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "c", "configMap": {"name": "cfg"}},
        {"name": "ci", "configMap": {"name": "cfg", "items": [{"key": "deep", "path": "a/b", "mode": 0o400}]}},
        {"name": "s", "secret": {"secretName": "sec", "defaultMode": 0o400}},
        {"name": "d", "downwardAPI": {"items": [field]}},
        {"name": "pr", "projected": {"sources": [{"configMap": {"name": "cfg"}}, token]}},
    ]
    script = (
        "cd /v; cat c/k ci/a/b s/s d/labels pr/deep pr/token /f; echo;"
        "stat -Lc %a ci/a/b s/s c/k e; touch e/x sub/x 2>&1; touch /sub/y; ls e e/sub-volumes; touch c/x 2>&1;"
        "touch /ro/x 2>&1; stat -fc %T m; cat /etc/hostname; grep volumes /etc/hosts; cat /etc/resolv.conf"
    )
    container = {
        "volumeMounts": mounts,
        "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    }
    return await machine.shell("volumes", script, container=container, volumes=listed)


async def endings(machine: Machine) -> Any:
    """Exit codes, messages, and what comes before a stop."""
    run = machine.shell
    await run("a", "echo -n hello > /dev/termination-log; exit 3")
    await run("b", "echo from-logs; exit 1", container={"terminationMessagePolicy": "FallbackToLogsOnError"})
    await run("c", "exit 0")
    missing = {"name": "app", "image": "app:v1", "command": ["/no/such/program"]}
    machine.rig.client.put("pods", make_pod("d", containers=[missing], restartPolicy="Never"))
    await machine.until(lambda: machine.status("d")["phase"] == "Failed")
    return {name: machine.status(name)["containerStatuses"][0]["state"]["terminated"] for name in ("a", "b", "c", "d")}


async def hooks(machine: Machine) -> Any:
    """postStart writes a file, preStop says good-bye into the log, SIGTERM ends it in time."""
    script = "trap 'echo term; exit 0' TERM; while true; do sleep 0.1; done"
    hook = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo started > /tmp/ps"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "cat /tmp/ps > /proc/1/fd/1"]}},
    }
    container = {"name": "app", "image": "app:v1", "command": ["sh", "-c", script], "lifecycle": hook}
    machine.rig.client.put("pods", make_pod("hooks", containers=[container], terminationGracePeriodSeconds=10))
    await machine.until(lambda: machine.ready("hooks"))
    log = machine.rig.surroundings.log_directory(machine.rig.pod("hooks")) / "app" / "0.log"
    follower = asyncio.create_task(machine.output("hooks", follow=True))
    await asyncio.sleep(0.1)
    seconds = await machine.delete("hooks")
    await machine.until(lambda: not log.exists())
    return {"seconds": seconds, "output": await follower}


async def probes(machine: Machine) -> Any:
    """An exec probe that fails restarts; a tcp probe of a closed port says so."""
    alive = {"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    container = {"name": "app", "image": "app:v1", "command": ["sh", "-c", "touch /tmp/alive; sleep 1000"]}
    container |= {"livenessProbe": alive, "readinessProbe": {"tcpSocket": {"port": 9}, "periodSeconds": 1}}
    machine.rig.client.put("pods", make_pod("probes", containers=[container], terminationGracePeriodSeconds=0))
    await machine.until(lambda: "Unhealthy" in machine.rig.recorder.reasons)
    process = await machine.node.exec("default", "probes", "app", ["rm", "/tmp/alive"], tty=False, stdin=False)
    code = await process.wait()
    await machine.until(lambda: machine.status("probes")["containerStatuses"][0]["restartCount"] == 1)
    unhealthy = {message for _, reason, message in machine.rig.recorder.events if reason == "Unhealthy"}
    last = machine.status("probes")["containerStatuses"][0]["lastState"]["terminated"]["exitCode"]
    await machine.delete("probes")
    return {"exec": code, "unhealthy": sorted(unhealthy), "last": last}


async def identity(machine: Machine) -> Any:
    """Who runs, with what, when the spec says so."""
    context = {"runAsUser": 1234, "runAsGroup": 99, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    script = "id -u; id -g; touch /x 2>&1; grep CapBnd /proc/self/status; echo $HOSTNAME $FOO; pwd"
    fields = {"securityContext": context, "workingDir": "/usr", "env": [{"name": "FOO", "value": "$(HOSTNAME)bar"}]}
    return await machine.shell("identity", script, container=fields)


async def start_lasting(machine: Machine) -> Any:
    script = "echo began; trap 'exit 0' TERM; while true; do sleep 0.1; done"
    container = {"name": "app", "image": "app:v1", "command": ["sh", "-c", script]}
    once = {**container, "command": ["sh", "-c", "sleep 1.5; exit 4"]}
    for name, spec in (("lasting", container), ("leaving", container)):
        machine.rig.client.put("pods", make_pod(name, containers=[spec], terminationGracePeriodSeconds=5))
    machine.rig.client.put("pods", make_pod("ending", containers=[once], restartPolicy="Never"))
    await machine.until(lambda: all(machine.ready(name) for name in ("lasting", "leaving", "ending")))
    return {"pid": os.getpid(), "id": machine.status("lasting")["containerStatuses"][0]["containerID"]}


async def remove_behind(machine: Machine) -> Any:
    """The object goes while nobody looks: the next daemon finds an orphan."""
    client = machine.rig.client
    client.objects.pop(Key("pods", "default", "leaving"))
    client.put("notes", {"metadata": {"name": "saved"}})
    return None


async def see_lasting(machine: Machine) -> Any:
    await machine.until(lambda: machine.status("ending")["phase"] == "Failed")
    await machine.until(lambda: machine.ready("lasting"))
    status = machine.status("lasting")["containerStatuses"][0]
    sandboxes = [pod["id"] for pod in await machine.rig.sandbox.pods()]
    output = await machine.output("lasting")
    code = machine.exit_code("ending")
    seconds = await machine.delete("lasting")
    return {
        "pid": os.getpid(),
        "id": status["containerID"],
        "restarts": status["restartCount"],
        "ending": code,
        "sandboxes": sandboxes,
        "output": output,
        "deleted after": seconds,
    }


STORIES: dict[str, Story] = {
    story.__name__: story
    for story in (plain, quick, volumes, endings, hooks, probes, identity, start_lasting, remove_behind, see_lasting)
}


async def serve(directory: Path) -> None:
    layout = Layout()
    prepare_node(layout)
    sandbox = await Sandbox.connect(str(directory / "run" / "zygote.sock"))
    image = FakeImage(config=ImageConfig(cmd=("sh",)), host_base=True, host_paths=_interpreter_paths())
    client, recorder, images = LastingClient(directory / "store.json"), FakeRecorder(), FakeImages({"app:v1": image})
    network = FakeNetwork([])
    surroundings = Surroundings(
        client=client,  # pyright: ignore[reportArgumentType]
        recorder=recorder,
        sandbox=sandbox,
        network=network,
        images=images,  # pyright: ignore[reportArgumentType]
        directory=directory,
        node_name="node1",
        host_ip=layout.gateway,
        host_sandbox="",
        allocatable=lambda: {"cpu": "2", "memory": "4Gi"},
        neighbours=lambda: (),
        host_resolver=Resolver(),
        clock=SystemClock(),
        new_id=lambda: secrets.token_hex(32),
        matches_node=lambda _pod, _node: True,
    )
    node = Node(surroundings)
    await node.start()
    rig = Rig(client, recorder, sandbox, network, images, surroundings)  # pyright: ignore[reportArgumentType]
    path = directory / "story.sock"
    path.unlink(missing_ok=True)
    machine = Machine(rig, node)
    server = await asyncio.start_unix_server(lambda r, w: _answer(machine, r, w), str(path))
    async with server:
        await server.serve_forever()


def _interpreter_paths() -> tuple[str, ...]:
    prefix = sys.base_prefix
    return () if prefix in ("/usr", "/usr/local") else (prefix,)


async def _answer(machine: Machine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    name = (await reader.readline()).decode().strip()
    machine.rig.recorder.events.clear()
    try:
        answer = {"saw": await STORIES[name](machine)}
    except Exception:  # noqa: BLE001  a story's failure is an answer
        answer = {"failed": traceback.format_exc()}
    writer.write(json.dumps(answer).encode() + b"\n")
    await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
