"""The OCI image configuration: what an image says about how it is to be run (opencontainers/image-spec, config.md).

`ImageConfig` is the part that the node and the builder work with. The document itself is kept as the bytes it came in,
since an image's id is the digest of those bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import orjson

HOST_KEY = "podling.host"
"""Top-level key of the document for images that the host stands in for; the specification allows unknown keys."""


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """Docker's HEALTHCHECK. Kubernetes ignores it; kept so that nothing is lost. Durations in nanoseconds."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How an image wants to be run. `env` entries are `NAME=value`; `exposed_ports` are `5000/tcp`."""

    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None

    def environment(self) -> dict[str, str]:
        """`env` as a mapping; the last of two equal names wins."""
        pairs = (entry.partition("=") for entry in self.env)
        return {name: value for name, _, value in pairs}


@dataclass(frozen=True, slots=True)
class ImageDocument:
    """A whole configuration document: run settings, layers (bottom first), and what the host lends."""

    config: ImageConfig
    diff_ids: tuple[str, ...] = ()
    host_base: bool = False
    host_paths: tuple[str, ...] = ()
    architecture: str = "amd64"
    os: str = "linux"
    created: str = ""
    history: tuple[str, ...] = ()


def digest_of(data: bytes) -> str:
    """`sha256:<hex>` of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def decode(data: bytes) -> ImageDocument:
    """Reads a configuration document; raises `ValueError` if it is not one."""
    document = _mapping(orjson.loads(data))
    config = _mapping(document.get("config") or {})
    rootfs = _mapping(document.get("rootfs") or {})
    host = _mapping(document.get(HOST_KEY) or {})
    return ImageDocument(
        config=_decode_config(config),
        diff_ids=_strings(rootfs.get("diff_ids")),
        host_base=bool(host.get("base")),
        host_paths=_strings(host.get("paths")),
        architecture=str(document.get("architecture") or ""),
        os=str(document.get("os") or ""),
        created=str(document.get("created") or ""),
        history=tuple(str(entry.get("created_by", "")) for entry in document.get("history") or ()),
    )


def encode(document: ImageDocument) -> bytes:
    """The document as canonical JSON: equal documents give equal bytes, and so equal ids."""
    body: dict[str, Any] = {
        "architecture": document.architecture,
        "os": document.os,
        "config": _encode_config(document.config),
        "rootfs": {"type": "layers", "diff_ids": list(document.diff_ids)},
    }
    if document.created:
        body["created"] = document.created
    if document.history:
        body["history"] = [{"created_by": entry} for entry in document.history]
    if document.host_base or document.host_paths:
        body[HOST_KEY] = {"base": document.host_base, "paths": list(document.host_paths)}
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def _decode_config(config: dict[str, Any]) -> ImageConfig:
    return ImageConfig(
        env=_strings(config.get("Env")),
        entrypoint=_strings(config.get("Entrypoint")),
        cmd=_strings(config.get("Cmd")),
        working_dir=str(config.get("WorkingDir") or ""),
        user=str(config.get("User") or ""),
        stop_signal=str(config.get("StopSignal") or ""),
        exposed_ports=tuple(sorted(config.get("ExposedPorts") or {})),
        volumes=tuple(sorted(config.get("Volumes") or {})),
        labels=dict(config.get("Labels") or {}),
        shell=_strings(config.get("Shell")),
        on_build=_strings(config.get("OnBuild")),
        healthcheck=_decode_healthcheck(config.get("Healthcheck")),
    )


def _encode_config(config: ImageConfig) -> dict[str, Any]:
    body: dict[str, Any] = {
        "Env": list(config.env),
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.cmd),
        "WorkingDir": config.working_dir,
        "User": config.user,
        "StopSignal": config.stop_signal,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Volumes": {path: {} for path in config.volumes},
        "Labels": config.labels,
        "Shell": list(config.shell),
        "OnBuild": list(config.on_build),
        "Healthcheck": _encode_healthcheck(config.healthcheck) if config.healthcheck else None,
    }
    return {key: value for key, value in body.items() if value}


_HEALTHCHECK_NUMBERS = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start_period": "StartPeriod",
    "start_interval": "StartInterval",
    "retries": "Retries",
}


def _decode_healthcheck(body: dict[str, Any] | None) -> Healthcheck | None:
    if not body:
        return None
    return Healthcheck(
        _strings(body.get("Test")), **{a: int(body.get(b) or 0) for a, b in _HEALTHCHECK_NUMBERS.items()}
    )


def _encode_healthcheck(check: Healthcheck) -> dict[str, Any]:
    numbers = {b: getattr(check, a) for a, b in _HEALTHCHECK_NUMBERS.items() if getattr(check, a)}
    return {"Test": list(check.test), **numbers}


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an image configuration")
    return value  # pyright: ignore[reportUnknownVariableType]  JSON


def _strings(value: list[Any] | None) -> tuple[str, ...]:
    return tuple(str(item) for item in value or ())
