"""What the node needs from the other rooms: the daemon passes something that fits.

The node decides what has to be true of a pod; the sandbox runs processes, the network moves addresses, the images room
finds layers. Each is met through one of these small protocols, so that every rule of the node is tested without them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from podling.api.streams.backend import Process as ExecProcess
from podling.images.config import ImageConfig
from podling.sandbox.cgroups import Usage
from podling.sandbox.spec import ContainerSpec, ContainerState, Limits, PodSpec


class Sandbox(Protocol):
    """The zygote, as `podling.sandbox.client` shows it. What it refuses is a `SandboxError`."""

    async def create_pod(self, spec: PodSpec, /) -> None: ...

    async def remove_pod(self, pod: str, /) -> None:
        """Kills what still runs in it and gives its namespaces back; harmless when it is gone."""
        ...

    async def start(self, spec: ContainerSpec, /) -> ContainerState:
        """Returns when the container's program runs. Raises `StartError` when it cannot be run."""
        ...

    async def signal(self, container: str, number: int, /) -> None:
        """To the container's first process; harmless after its end. Raises `NotFound` when it never was."""
        ...

    async def update(self, pod: str, limits: Limits, container: str = "", /) -> None:
        """Gives the pod's group, or one of its running containers, other limits; absent ones stay."""
        ...

    async def remove(self, container: str, /) -> None:
        """Forgets an ended container and unmounts its root."""
        ...

    async def exec(
        self,
        container: str,
        args: Sequence[str],
        /,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        tty: bool = False,
        stdin: bool = False,
    ) -> ExecProcess: ...

    async def attach(self, container: str, /) -> ExecProcess: ...

    async def dial(self, pod: str, port: int, host: str = "127.0.0.1", /) -> socket.socket: ...

    async def containers(self) -> Sequence[ContainerState]: ...

    async def pods(self) -> Sequence[PodSpec]:
        """The pods that exist."""
        ...

    async def stats(self, pod: str, /) -> Mapping[str, Usage]:
        """What the running containers of a pod use, by container id."""
        ...

    async def listen_queue(self, pod: str, /) -> int:
        """How many connections to the pod's listening sockets wait to be accepted or are being served."""
        ...

    async def freeze(self, container: str, frozen: bool, /) -> None:
        """Stops or continues all processes of a container."""
        ...

    def on_exit(self, callback: Callable[[ContainerState], None], /) -> Callable[[], None]:
        """Calls back on the event loop at every container's end, until what is returned is called."""
        ...


class Network(Protocol):
    """Addresses of pods, and their place behind services."""

    @property
    def gateway(self) -> str: ...

    @property
    def nameservers(self) -> Sequence[str]: ...

    @property
    def cluster_domain(self) -> str: ...

    def allocate(self, pod_uid: str) -> str:
        """An address that no other pod has; the same one when asked again. Raises `RuntimeError` when all are taken."""
        ...

    def restore(self, pod_uid: str, ip: str) -> None:
        """Says that an adopted pod already has this address."""
        ...

    def release(self, pod_uid: str) -> None: ...

    async def attach(self, ip: str, host_ports: Sequence[tuple[str, int, int]] = ()) -> None:
        """Makes the address reachable, after the pod's sandbox was made.

        `host_ports` are ports of the node that lead to it: protocol, the node's port, the pod's.
        """
        ...

    async def detach(self, ip: str) -> None: ...

    async def withdraw(self, ip: str) -> None:
        """Takes the address out of every service, now, and keeps it out until `admit`.

        When it returns, no new connection through a service reaches the address.
        """
        ...

    async def admit(self, ip: str) -> None:
        """Lets the address back in, as far as endpoints say that it is ready."""
        ...


class Image(Protocol):
    """An image that is ready to be run."""

    @property
    def id(self) -> str:
        """`sha256:<hex>` of its configuration."""
        ...

    @property
    def config(self) -> ImageConfig:
        """How it wants to be run."""
        ...

    @property
    def lowers(self) -> Sequence[str]:
        """Directories of its unpacked layers, the topmost first."""
        ...

    @property
    def host_base(self) -> bool: ...

    @property
    def host_paths(self) -> Sequence[str]: ...

    @property
    def note(self) -> str:
        """What the user should be told about it, such as that the host stands in."""
        ...


class Images(Protocol):
    """The store of images. What cannot be had is a `podling.images.errors.ImageError`."""

    def present(self, reference: str, policy: str) -> Image | None:
        """The image, if it need not be fetched under this policy. Raises `ImageError` InvalidImageName."""
        ...

    async def pull(self, reference: str, policy: str, pull_secrets: Sequence[Mapping[str, Any]]) -> Image:
        """Fetches it. `pull_secrets` are the decoded `.dockerconfigjson` documents of the pod."""
        ...

    def size(self, image: Image) -> int:
        """In bytes, of all its layers."""
        ...
