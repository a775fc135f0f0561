"""What the zygote is asked to run: JSON-ready shapes, shared by the node, the image builder and the zygote.

Paths are absolute paths as the node namespace sees them. Ids are chosen by the caller and are unique for ever.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class Mount(TypedDict):
    """One mount inside a container, after its root is built."""

    target: str
    type: Literal["bind", "tmpfs", "empty"]
    """`bind`: the file or directory `source`. `tmpfs`: a new tmpfs of `size` bytes.

    `empty`: a new directory in the container's own `directory`, as the VOLUME of an image gets it.
    """
    source: NotRequired[str]
    sub_path: NotRequired[str]
    """A path below `source`: made when missing, and never followed out of `source` by a symbolic link."""
    read_only: NotRequired[bool]
    size: NotRequired[int]
    propagation: NotRequired[Literal["none", "host-to-container", "bidirectional"]]


class Limits(TypedDict, total=False):
    """cgroup settings; absent means not limited."""

    cpu_millis: int
    """CPU limit in thousandths of a core (quota)."""
    cpu_shares: int
    """Relative weight in cgroup v1 shares (1024 = one core's request)."""
    memory_bytes: int
    pids: int


class PodSpec(TypedDict):
    """The sandbox of a pod: what its containers share."""

    id: str
    hostname: str
    ip: NotRequired[str]
    """The pod's address, `/32` on a point-to-point veth; absent: it shares that of `network`, else the machine's."""
    gateway: NotRequired[str]
    network: NotRequired[str]
    """Id of a pod, created before, whose network it shares; its name is its own."""
    host_pid: NotRequired[bool]
    host_ipc: NotRequired[bool]
    share_pid: NotRequired[bool]
    """`shareProcessNamespace`: all containers in one PID namespace."""
    sysctls: NotRequired[dict[str, str]]
    cgroup: NotRequired[str]
    """Relative path below the cluster's cgroup: `burstable/pod<uid>`."""
    limits: NotRequired[Limits]


class ContainerSpec(TypedDict):
    """A container: its root, its process, its limits."""

    id: str
    pod: str
    """Id of a pod created before."""
    target: NotRequired[str]
    """Id of a running container whose processes it is to see, in whose PID namespace it then lives."""
    lowers: list[str]
    """Image layers, unpacked, the topmost first."""
    host_base: bool
    """Whether the host's own `/usr`, `/etc`, ... lie below the layers (images that the host stands in for)."""
    host_paths: NotRequired[list[str]]
    """Host directories bound read-only at their own path (an interpreter that lives under a home directory)."""
    directory: str
    """An existing directory of this container's own, for its writable layer; removed by the caller."""
    args: list[str]
    env: dict[str, str]
    cwd: str
    uid: int
    gid: int
    groups: list[int]
    mounts: list[Mount]
    capabilities: list[str]
    """The bounding, permitted and effective set, without the `CAP_` prefix."""
    no_new_privileges: bool
    read_only_root: bool
    privileged: NotRequired[bool]
    """Nothing of /proc and /sys is hidden or read-only."""
    seccomp: NotRequired[Literal["unconfined", "runtime-default"]]
    """`runtime-default` refuses the system calls that a container has no business with; absent: unconfined."""
    tty: bool
    stdin: bool
    """Whether stdin stays open for `attach`; else it is /dev/null."""
    stdin_once: NotRequired[bool]
    """Whether the process sees the end of its input when the first `attach` ends."""
    log_path: NotRequired[str]
    """File of the container's output in the CRI log format; absent: output is thrown away."""
    log_max_bytes: NotRequired[int]
    log_max_files: NotRequired[int]
    limits: NotRequired[Limits]
    oom_score_adj: NotRequired[int]
    files: NotRequired[dict[str, str]]
    """Small files bound into the root, by absolute path: resolv.conf, hosts, hostname. Never part of a layer."""


class ContainerState(TypedDict):
    """What the zygote knows of a container; kept until it is removed, also while the daemon is away."""

    id: str
    pod: str
    pid: int
    """In the node's PID namespace."""
    started_at: float
    """Unix time in seconds."""
    finished_at: NotRequired[float]
    exit_code: NotRequired[int]
    """As a shell shows it: 128 + signal for a signal."""
    signal: NotRequired[int]
    oom_killed: NotRequired[bool]
