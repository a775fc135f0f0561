"""A pod's volumes as directories of this machine, and their mounts in a container.

Each volume of the spec becomes a directory (or, for hostPath, any file) in the node's own mount namespace; a container
gets bind mounts of them. What shows objects is written again when these change. A directory in memory is a tmpfs that
is mounted once for the pod, so that all its containers share it and a restart of one keeps it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.images.errors import ImageError
from podling.node import amounts, atomic, pull_secrets
from podling.node.environment import ConfigError, PodContext, expand, names_in
from podling.node.interfaces import Images
from podling.node.payload import TokenRequest, VolumeError, is_payload, payload, token_requests
from podling.node.state import part
from podling.sandbox import syscalls
from podling.sandbox.spec import Mount
from podling.store.types import Object


class SetupError(Exception):
    """One volume of a pod cannot be set up: its name, and the kubelet's message."""

    def __init__(self, volume: str, message: str) -> None:
        self.volume = volume
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {message}')


class _Token(NamedTuple):
    text: str
    renew_at: float


class Volumes:
    """The volumes of one pod below `directory`."""

    def __init__(self, directory: Path, client: Client, images: Images) -> None:
        self._directory = directory
        self._client = client
        self._images = images
        self._paths: dict[str, Path] = {}
        self._read_only: set[str] = set()
        self._tokens: dict[TokenRequest, _Token] = {}

    async def set_up(self, context: PodContext, now: float) -> None:
        """Makes every volume that is not there yet, and writes again what shows objects. Raises `SetupError`."""
        for volume in meta.spec(context.pod).get("volumes") or ():
            try:
                await self._set_up(volume, context, now)
            except (VolumeError, ApiError, ImageError, OSError) as error:
                raise SetupError(volume["name"], str(error)) from error

    def next_renewal(self) -> float | None:
        """When a token should be renewed by another `set_up` (Unix seconds)."""
        return min((token.renew_at for token in self._tokens.values()), default=None)

    async def _set_up(self, volume: Object, context: PodContext, now: float) -> None:
        name: str = volume["name"]
        if is_payload(volume):
            await self._set_up_payload(volume, context, now)
        elif name not in self._paths:
            self._paths[name] = await self._directory_of(volume, context)

    async def _set_up_payload(self, volume: Object, context: PodContext, now: float) -> None:
        for request in token_requests(volume):
            await self._ensure_token(request, context.pod, now)
        tokens = {request: token.text for request, token in self._tokens.items()}
        files = payload(volume, context, self._client, tokens)
        path = self._directory / "projected" / volume["name"]
        atomic.write(path, files, datetime.fromtimestamp(now, UTC), _fs_group(context.pod))
        self._paths[volume["name"]] = path
        self._read_only.add(volume["name"])

    async def _ensure_token(self, request: TokenRequest, pod: Object, now: float) -> None:
        held = self._tokens.get(request)
        if held is not None and now < held.renew_at:
            return
        answer = await self._client.create("serviceaccounts", _token_request_body(request, pod), subresource="token")
        expires = meta.parse_time(meta.status(answer)["expirationTimestamp"]).timestamp()
        self._tokens[request] = _Token(meta.status(answer)["token"], now + (expires - now) * _RENEWED_AFTER)

    async def _directory_of(self, volume: Object, context: PodContext) -> Path:
        pod = context.pod
        if "hostPath" in volume:
            return _host_path(volume["hostPath"])
        if "persistentVolumeClaim" in volume:
            source: Object = volume["persistentVolumeClaim"]
            if source.get("readOnly"):
                self._read_only.add(volume["name"])
            return self._claimed(source["claimName"], pod)
        if "ephemeral" in volume:
            return self._claimed(f"{meta.name(pod)}-{volume['name']}", pod)
        if "image" in volume:
            self._read_only.add(volume["name"])
            return await self._image(volume, pod)
        if "emptyDir" in volume or not volume.keys() - {"name"}:
            return self._empty_directory(volume, context)
        kind = next(iter(volume.keys() - {"name"}))
        raise VolumeError(f"volumes of type {kind} are not supported on this node")

    def _empty_directory(self, volume: Object, context: PodContext) -> Path:
        source = part(volume, "emptyDir")
        path = self._directory / "empty" / volume["name"]
        path.mkdir(parents=True, exist_ok=True)
        if source.get("medium") == "Memory" and not path.is_mount():
            limit = amounts.memory_volume(source, context.pod, context.allocatable)
            syscalls.mount("tmpfs", str(path), "tmpfs", 0, f"size={limit}" if limit else None)
        path.chmod(0o777)
        group = _fs_group(context.pod)
        if group is not None:
            atomic.give_to_group(path, group)
            path.chmod(0o2777)
        return path

    async def _image(self, volume: Object, pod: Object) -> Path:
        """An image's files, read-only, mounted once for the pod."""
        reference: str = volume["image"]["reference"]
        policy: str = volume["image"].get("pullPolicy") or "IfNotPresent"
        found = self._images.present(reference, policy)
        if found is None:
            found = await self._images.pull(reference, policy, pull_secrets.of_pod(pod, self._client))
        if len(found.lowers) == 1:
            return Path(found.lowers[0])
        path = self._directory / IMAGES / volume["name"]
        path.mkdir(parents=True, exist_ok=True)
        if found.lowers and not path.is_mount():
            marks = "" if syscalls.in_initial_user_namespace() else ",userxattr"
            syscalls.mount("overlay", str(path), "overlay", 0, f"lowerdir={':'.join(found.lowers)}{marks}")
        return path

    def _claimed(self, claim_name: str, pod: Object) -> Path:
        claim = self._client.get("persistentvolumeclaims", meta.namespace(pod), claim_name)
        if claim is None:
            raise VolumeError(f'persistentvolumeclaim "{claim_name}" not found')
        volume_name = meta.spec(claim).get("volumeName", "")
        if meta.status(claim).get("phase") != "Bound":
            raise VolumeError(f"PVC {meta.namespace(pod)}/{claim_name} is not bound")
        volume = self._client.get("persistentvolumes", "", volume_name)
        if volume is None:
            raise VolumeError(f'persistentvolume "{volume_name}" not found')
        spec = meta.spec(volume)
        if "hostPath" in spec:
            path = _host_path({"type": "DirectoryOrCreate", **spec["hostPath"]})
        elif "local" in spec:
            path = _existing(Path(spec["local"]["path"]))
        else:
            raise VolumeError(f'persistentvolume "{volume_name}" is of a type that this node does not support')
        _hand_to_group(path, _fs_group(pod))
        return path

    # Containers

    def mounts(self, container: Object, variables: Mapping[str, str]) -> list[Mount]:
        """The container's `volumeMounts`, outer ones before those inside them. Raises `ConfigError`."""
        found = [self._mount(container, mount, variables) for mount in container.get("volumeMounts") or ()]
        return sorted(found, key=lambda mount: mount["target"].rstrip("/").count("/"))

    def _mount(self, container: Object, mount: Object, variables: Mapping[str, str]) -> Mount:
        path = self._paths.get(mount["name"])
        if path is None:
            raise ConfigError(f'cannot find volume "{mount["name"]}" to mount into container "{container["name"]}"')
        result = Mount(target=mount["mountPath"], type="bind", source=str(path))
        if mount.get("readOnly") or mount["name"] in self._read_only:
            result["read_only"] = True
        sub_path = _sub_path(mount, variables)
        if sub_path:
            result["sub_path"] = sub_path
        match mount.get("mountPropagation"):
            case "HostToContainer":
                result["propagation"] = "host-to-container"
            case "Bidirectional":
                result["propagation"] = "bidirectional"
            case _:
                pass
        return result

    async def tear_down(self) -> None:
        """Removes what belongs to the pod alone; harmless when repeated."""
        self._paths.clear()
        self._tokens.clear()
        await remove_volumes(self._directory)

    def path_of(self, name: str) -> Path | None:
        """Where a volume lies, once it is set up."""
        return self._paths.get(name)


IMAGES = "images"
"""Below the directory of volumes: where images are mounted."""


async def remove_volumes(directory: Path) -> None:
    """Removes all volumes below a pod's directory of volumes, mounted ones too; also of a pod that nobody knows."""
    for path in [*(directory / "empty").glob("*"), *(directory / IMAGES).glob("*")]:
        if path.is_mount():
            with contextlib.suppress(OSError):
                syscalls.unmount(str(path))
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


_RENEWED_AFTER = 0.8
"""The part of a token's life after which the kubelet gets another."""


def _token_request_body(request: TokenRequest, pod: Object) -> dict[str, Any]:
    reference = {"apiVersion": "v1", "kind": "Pod", "name": meta.name(pod), "uid": meta.uid(pod)}
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": {
            "name": meta.spec(pod).get("serviceAccountName") or "default",
            "namespace": meta.namespace(pod),
        },
        "spec": {
            "audiences": [request.audience] if request.audience else [],
            "expirationSeconds": request.seconds,
            "boundObjectRef": reference,
        },
    }


def _sub_path(mount: Object, variables: Mapping[str, str]) -> str:
    if not mount.get("subPathExpr"):
        return mount.get("subPath", "")
    missing = sorted({name for name in names_in(mount["subPathExpr"]) if not variables.get(name)})
    if missing:
        raise ConfigError(f"missing value for {', '.join(missing)}")
    expanded = expand(mount["subPathExpr"], variables)
    if expanded.startswith("/"):
        raise ConfigError(f"error SubPath `{expanded}` must not be an absolute path")
    if ".." in expanded.split("/"):
        raise ConfigError(f"unable to provision SubPath `{expanded}`: must not contain '..'")
    return expanded


def _fs_group(pod: Object) -> int | None:
    return part(meta.spec(pod), "securityContext").get("fsGroup")


def _hand_to_group(path: Path, group: int | None) -> None:
    """What fsGroup promises of a claim: its root belongs to the group, which may write, and so do new files."""
    if group is None:
        return
    atomic.give_to_group(path, group)
    with contextlib.suppress(OSError):
        path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o2770)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise VolumeError(f'path "{path}" does not exist')
    return path


def _host_path(source: Object) -> Path:
    """Checks or makes the path by its `type`."""
    path = Path(source["path"])
    kind: str = source.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
    elif kind == "" and not path.exists():
        path.mkdir(mode=0o750, parents=True)
    check = _HOST_PATH_CHECKS.get(kind.removesuffix("OrCreate"))
    if check is not None and not (path.exists() and check[0](path.stat().st_mode)):
        raise VolumeError(f"hostPath type check failed: {path} is not a {check[1]}")
    return path


_HOST_PATH_CHECKS = {
    "Directory": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


def tree_size(path: Path) -> int:
    """Bytes of disk that a directory's files take; what vanishes meanwhile counts nothing."""
    total = 0
    for directory, _, files in os.walk(path, onerror=lambda _error: None):
        for file in files:
            with contextlib.suppress(OSError):
                total += (Path(directory) / file).lstat().st_blocks * 512
    return total
