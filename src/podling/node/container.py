"""From a container of a Pod's spec and its image to what the zygote is asked to run. Pure but for reading the image's
user files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podling.api import meta
from podling.node import amounts, identity
from podling.node.environment import expand
from podling.node.identity import Identity
from podling.node.interfaces import Image
from podling.node.state import Instance, part
from podling.sandbox.spec import ContainerSpec, Mount
from podling.store.types import Object

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TERMINATION_LOG = "/dev/termination-log"
LOG_BYTES = 10 * 1024 * 1024
LOG_FILES = 5


class CreateError(Exception):
    """The container cannot be made of its image and spec (`CreateContainerError`)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run of a container lives on the node, and what its pod lends it."""

    pod: str
    """Id of the sandbox."""
    host_name: str
    directory: str
    log_path: str
    termination_log: str
    """A file of the node, bound at the container's `terminationMessagePath`."""
    files: Mapping[str, str]
    mounts: Sequence[Mount]


def identify(container: Object, pod: Object, image: Image) -> Identity:
    """Raises `ConfigError` and `CreateError`."""
    try:
        return identity.identify(container, pod, image.config.user, lambda path: _image_file(image, path))
    except identity.UnknownAccount as error:
        raise CreateError(str(error)) from error


def _image_file(image: Image, path: str) -> str:
    roots = [*image.lowers, *(["/"] if image.host_base else [])]
    for root in roots:
        with contextlib.suppress(OSError):
            return (Path(root) / path.lstrip("/")).read_text(errors="replace")
    return ""


def full_environment(
    container: Object, image: Image, who: Identity, variables: Mapping[str, str], host_name: str
) -> dict[str, str]:
    """The image's variables below the container's, and what a runtime adds."""
    own = image.config.environment()
    base = {"PATH": DEFAULT_PATH, "HOSTNAME": host_name, "HOME": who.home}
    terminal = {"TERM": "xterm"} if container.get("tty") else {}
    return {**base, **terminal, **own, **variables}


def arguments(container: Object, image: Image, variables: Mapping[str, str]) -> list[str]:
    """`command` replaces the image's entrypoint and drops its arguments; `args` replaces the arguments only."""
    command = [expand(word, variables) for word in container.get("command") or ()]
    args = [expand(word, variables) for word in container.get("args") or ()]
    entrypoint = command or list(image.config.entrypoint)
    rest = args if command or args else list(image.config.cmd)
    found = entrypoint + rest
    if not found:
        raise CreateError("no command specified")
    return found


def container_spec(
    container: Object, pod: Object, image: Image, run: Instance, args: Sequence[str], place: Place
) -> ContainerSpec:
    """What to run. `run` already holds identity, environment and working directory."""
    context = part(container, "securityContext")
    spec = ContainerSpec(
        id=run.id,
        pod=place.pod,
        lowers=list(image.lowers),
        host_base=image.host_base,
        directory=place.directory,
        args=list(args),
        env=run.env,
        cwd=run.cwd,
        uid=run.uid,
        gid=run.gid,
        groups=run.groups,
        mounts=_mounts(container, image, place),
        capabilities=identity.capabilities(container),
        no_new_privileges=identity.no_new_privileges(container),
        read_only_root=bool(context.get("readOnlyRootFilesystem")),
        privileged=bool(context.get("privileged")),
        tty=bool(container.get("tty")),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        log_path=place.log_path,
        log_max_bytes=LOG_BYTES,
        log_max_files=LOG_FILES,
        limits=amounts.container_limits(container),
        files=dict(place.files),
    )
    if image.host_paths:
        spec["host_paths"] = list(image.host_paths)
    profile: Any = identity.effective(container, pod, "seccompProfile")
    if isinstance(profile, dict) and profile.get("type") == "RuntimeDefault":  # pyright: ignore[reportUnknownMemberType]  JSON
        spec["seccomp"] = "runtime-default"
    return spec


def _mounts(container: Object, image: Image, place: Place) -> list[Mount]:
    """The spec's mounts, the termination log, and an empty directory for each VOLUME of the image left alone."""
    taken = {mount["target"].rstrip("/") for mount in place.mounts}
    volumes = [path for path in image.config.volumes if path.rstrip("/") not in taken]
    log = Mount(
        target=container.get("terminationMessagePath") or TERMINATION_LOG, type="bind", source=place.termination_log
    )
    return [*(Mount(target=path, type="empty") for path in volumes), *place.mounts, log]


def working_directory(container: Object, image: Image) -> str:
    return container.get("workingDir") or image.config.working_dir or "/"


def stop_signal(container: Object, image: Image) -> str:
    return part(container, "lifecycle").get("stopSignal") or image.config.stop_signal or "SIGTERM"


def shares_process_namespace(pod: Object) -> bool:
    return bool(meta.spec(pod).get("shareProcessNamespace"))
