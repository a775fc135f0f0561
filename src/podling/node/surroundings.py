"""What every part of the node works with, gathered once: the other rooms, the clock, the places on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from podling.api.client import Client, EventRecorder
from podling.clock import SystemClock
from podling.node.admission import Matches
from podling.node.interfaces import Images, Network, Sandbox
from podling.node.naming import Resolver
from podling.node.stats import PodMetrics
from podling.store.types import Object, Uid

AGENT = "kube-probe/1.36"
"""The User-Agent of probes and hooks."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    client: Client
    recorder: EventRecorder
    sandbox: Sandbox
    network: Network
    images: Images
    directory: Path
    """The node's own; pods live in `pods/<uid>` below it, their output in `logs`."""
    node_name: str
    host_ip: str
    host_sandbox: str
    """The sandbox whose network is the node's, for pods that share it; `""`: it is the machine's."""
    allocatable: Callable[[], Mapping[str, str]]
    host_resolver: Resolver
    neighbours: Callable[[], Sequence[Sequence[PodMetrics]]]
    """What the other nodes of the machine used lately."""
    clock: SystemClock
    new_id: Callable[[], str]
    """64 hex digits, never the same."""
    matches_node: Matches
    """Whether a pod's selector and affinity want a node; the scheduler's rule, passed in."""

    def now(self) -> float:
        """The cluster's time, in Unix seconds."""
        return self.clock.seconds()

    def pod_directory(self, uid: Uid) -> Path:
        return self.directory / "pods" / uid

    def volumes_directory(self, uid: Uid) -> Path:
        return self.pod_directory(uid) / "volumes"

    def log_directory(self, pod: Object) -> Path:
        """As below `/var/log/pods`, so that log collectors find what they know."""
        metadata: Object = pod["metadata"]
        return self.directory / "logs" / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"

    def log_path(self, pod: Object, container: str, attempt: int) -> Path:
        """Of one run of a container."""
        return self.log_directory(pod) / container / f"{attempt}.log"

    def run_directory(self, pod: Object, container: str, attempt: int) -> Path:
        """Where one run of a container writes: its root, its termination message."""
        return self.pod_directory(pod["metadata"]["uid"]) / "containers" / container / str(attempt)
