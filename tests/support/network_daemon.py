"""Stand-ins for what lives in a node beside the proxy: `python -m support.network_daemon pods|daemon RUN`.

`pods` makes three pods that say their names. `daemon` is a daemon with nothing but the network in it: it brings a load
balancer up, writes what came of it to `RUN/daemon.json`, withdraws one pod after the other, and kills itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

from podling.network.controller import ServiceProxy
from podling.network.dns import encode_name
from podling.network.layout import Layout
from podling.network.node_links import prepare_node
from support.network_cluster import MemoryCluster
from support.network_node import make_pod, serve_name, wait_served

PODS = {"a": "10.244.0.10", "b": "10.244.0.11", "c": "10.244.0.12"}
WEB = "10.96.7.7"


def question(name: str, kind: int = 1) -> bytes:
    return struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + encode_name(name) + struct.pack(">HH", kind, 1)


def ask_dns(name: str, server: str = "10.96.0.10", *, tcp: bool = False) -> Any:
    """(response code, the last address in the answer)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect((server, 53))
        asked = question(name)
        client.sendall((len(asked).to_bytes(2, "big") if tcp else b"") + asked)
        answer = client.recv(2048)[2 if tcp else 0 :]
    count = struct.unpack_from(">H", answer, 6)[0]
    return answer[3] & 15, socket.inet_ntoa(answer[-4:]) if count else ""


def cluster() -> MemoryCluster:
    made = MemoryCluster()
    made.namespace("default")
    for name, ip in PODS.items():
        made.pod(name, ip)
    made.service("web", WEB, "LoadBalancer")
    made.service("headless", "None")
    made.endpoints("web", a=True, b=True, c=True)
    made.endpoints("headless", a=True, b=True)
    return made


def names() -> dict[str, Any]:
    return {
        "service": ask_dns("web.default.svc.cluster.local"),
        "service over tcp": ask_dns("web.default.svc.cluster.local", tcp=True),
        "at the gateway": ask_dns("web.default.svc.cluster.local", "10.244.0.1"),
        "pod": ask_dns("b.headless.default.svc.cluster.local"),
        "nobody": ask_dns("nobody.default.svc.cluster.local"),
        "of the host": ask_dns("localhost"),
    }


async def daemon(run: Path) -> None:
    began = time.monotonic()
    objects = cluster()
    proxy = ServiceProxy(
        objects,  # type: ignore[arg-type]
        layout=Layout(),
        record=objects.record,
        run_directory=run,
        state_directory=run,
    )
    await proxy.start()
    started = time.monotonic() - began
    announced = asyncio.Event()
    objects.subscribe("services", lambda change: announced.set() if _address(change.entry.object) else None)
    await announced.wait()
    service = objects.get("services", "default", "web")
    assert service is not None
    seen = {
        "host ports": json.loads(service["metadata"]["annotations"]["podling.dev/host-ports"]),
        "address": _address(service),
        "events": objects.events,
        "start_ms": started * 1000,
        "names": await asyncio.to_thread(names),
    }
    with (run / "lives").open("a") as lives:
        lives.write("x")
    draft = run / "daemon.new"
    draft.write_text(json.dumps(seen))
    draft.replace(run / "daemon.json")
    for ip in [*PODS.values()] * 10:
        await proxy.withdraw(ip)
        await asyncio.sleep(0.005)
        await proxy.admit(ip)
        await asyncio.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


def _address(service: dict[str, Any]) -> str:
    ingress = service["status"]["loadBalancer"].get("ingress")
    return ingress[0]["ip"] if ingress else ""


def pods() -> None:
    prepare_node(Layout())
    for name, ip in PODS.items():
        make_pod(ip).run(serve_name(name, 5000))
        wait_served(ip, 5000)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    if sys.argv[1] == "pods":
        pods()
    else:
        asyncio.run(daemon(Path(sys.argv[2])))
