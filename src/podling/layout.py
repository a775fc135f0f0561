"""Where podling keeps its files. Nothing else on the host is written, but the user's kubeconfig.

$PODLING_HOME | $XDG_DATA_HOME/podling | ~/.local/share/podling
    images/             layers and image records, shared by all clusters
    clusters/.NAME.lock held while a command starts or ends the cluster
    clusters/NAME/
        cluster.json    what was chosen when the cluster was made: see `ClusterRecord`
        state.db        the store
        pki/            certificates and keys
        run/            sockets and process ids; see `Layout.run`
        logs/           what podling's own processes say
        nodes/NAME/     of each node:
            pods/UID/   volumes and writable layers of a pod
            logs/       what containers say
        volumes/NAME/   a persistent volume that was made to order
        snapshots/NAME/ what a volume held when a snapshot was taken of it
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

DEFAULT_NAME = "podling"
NODE_GRACE = 50.0
"""Seconds without a sign of life until a node counts as dead (kube-controller-manager's default)."""
SOCKET_PATH_LIMIT = 90
"""Longest run directory: `sun_path` holds 107 bytes, and the socket's own name is to fit as well."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


class ClusterRecord(TypedDict):
    """`cluster.json`."""

    name: str
    node: str
    api_port: int
    """On the host's 127.0.0.1; the same for the cluster's whole life, so that kubeconfigs stay valid."""
    addons: NotRequired[bool]
    """Whether the cluster has what most have beside Kubernetes itself, as a default storage class; absent: yes."""
    time_scale: NotRequired[int]
    """How many times faster than the machine's the cluster's time runs; absent: once."""
    since: NotRequired[float]
    """When both showed the same: Unix seconds."""
    nodes: NotRequired[int]
    """How many this machine passes for; absent: one."""
    node_capacity: NotRequired[dict[str, str]]
    """By resource, what each of them has; of what is not here, an equal part of the machine's."""
    node_grace: NotRequired[float]
    """Seconds of the machine without a sign of life until a node counts as dead; absent: as in Kubernetes."""


class BadClusterName(ValueError):
    """The name is no DNS label of at most 40 characters."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one cluster."""

    home: Path
    name: str

    @classmethod
    def of(cls, name: str, home: Path | None = None) -> Layout:
        if not _NAME.fullmatch(name):
            raise BadClusterName(
                f'"{name}" cannot name a cluster: use at most 40 lower case letters, digits and "-", '
                "beginning and ending with a letter or digit"
            )
        return cls(home or default_home(), name)

    @property
    def context(self) -> str:
        """The kubeconfig context, and the name of the cluster's first node."""
        return self.name if self.name == DEFAULT_NAME else f"{DEFAULT_NAME}-{self.name}"

    @property
    def images(self) -> Path:
        return self.home / "images"

    @property
    def state(self) -> Path:
        return self.home / "clusters" / self.name

    @property
    def record(self) -> Path:
        return self.state / "cluster.json"

    @property
    def lock(self) -> Path:
        return self.home / "clusters" / f".{self.name}.lock"

    @property
    def database(self) -> Path:
        return self.state / "state.db"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def nodes(self) -> Path:
        return self.state / "nodes"

    @property
    def volumes(self) -> Path:
        return self.state / "volumes"

    @property
    def snapshots(self) -> Path:
        return self.state / "snapshots"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def stopped_nodes(self) -> Path:
        """Which nodes were stopped: JSON. It goes when the cluster ends, and a cluster that is started starts them."""
        return self.run / "stopped-nodes.json"

    @property
    def run(self) -> Path:
        """The sockets' directory: in the state directory, unless its path is too long for a socket address."""
        inside = self.state / "run"
        if len(os.fsencode(inside)) <= SOCKET_PATH_LIMIT:
            return inside
        digest = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"podling-{os.getuid()}-{digest}"


def node_name(record: ClusterRecord, number: int) -> str:
    """`podling`, `podling-worker`, `podling-worker2`: as kind calls the nodes after the first."""
    if number == 0:
        return record["node"]
    return f"{record['node']}-worker" + (str(number) if number > 1 else "")


def write_record(layout: Layout, record: ClusterRecord) -> None:
    write_whole(layout.record, json.dumps(record))


def write_whole(path: Path, text: str) -> None:
    """In one step: a full disk or a crash leaves the old file. Raises `OSError`."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def default_home() -> Path:
    if explicit := os.environ.get("PODLING_HOME"):
        return Path(explicit).absolute()
    if data := os.environ.get("XDG_DATA_HOME"):
        return Path(data) / "podling"
    return Path.home() / ".local" / "share" / "podling"


def cluster_names(home: Path | None = None) -> list[str]:
    """The clusters that exist, running or not."""
    clusters = (home or default_home()) / "clusters"
    if not clusters.is_dir():
        return []
    return sorted(d.name for d in clusters.iterdir() if (d / "cluster.json").is_file())
