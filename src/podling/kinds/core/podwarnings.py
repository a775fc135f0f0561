"""Warnings about pods that are accepted and yet probably not meant (`pkg/api/pod/warnings.go`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from podling.api.resources import Write
from podling.kinds.core.requirements import nanos
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_DEPRECATED_LABELS: Final = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}


def warn(write: Write) -> None:
    """Warns about a new pod, or one whose spec changes."""
    if write.operation != "CREATE" and (write.subresource or not _template_changed(write)):
        return
    write.warnings += of_spec(part(write.new, "spec"), "spec")


def _template_changed(write: Write) -> bool:
    return write.old is None or write.old.get("spec") != write.new.get("spec")


def of_template(template: Object, path: str) -> list[str]:
    return of_spec(part(template, "spec"), f"{path}.spec")


def of_spec(spec: Object, path: str) -> list[str]:
    warnings = [
        f"{path}.nodeSelector[{key}]: {_DEPRECATED_LABELS[key]}"
        for key in sorted(entries(spec, "nodeSelector"))
        if key in _DEPRECATED_LABELS
    ]
    for at, volume in each(f"{path}.volumes", spec.get("volumes")):
        warnings += _volume(volume, at)
    warnings += _duplicate_names(f"{path}.hostAliases", spec.get("hostAliases"), "ip", ": duplicate ip")
    for at, secret in each(f"{path}.imagePullSecrets", spec.get("imagePullSecrets")):
        if not text(secret, "name"):
            warnings.append(f'{at}.name: invalid empty name ""')
    warnings += _duplicate_names(f"{path}.imagePullSecrets", spec.get("imagePullSecrets"), "name", ": duplicate name")
    for key in ("initContainers", "containers"):
        for at, container in each(f"{path}.{key}", spec.get(key)):
            warnings += _container(container, at)
    warnings += _duplicate_ports(spec, path)
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        warnings.append(
            f"{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        )
    return warnings + _topology(spec, path)


def _duplicate_names(path: str, items: Sequence[Object] | None, key: str, says: str) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    for at, item in each(path, items):
        value = text(item, key)
        if value and value in seen:
            found.append(f'{at}.{key}{says} "{value}"')
        seen.add(value)
    return found


_REMOVED_VOLUMES: Final[Mapping[str, str]] = {
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
}


def _volume(volume: Object, path: str) -> list[str]:
    found = [f"{path}.{kind}: {says}" for kind, says in _REMOVED_VOLUMES.items() if volume.get(kind) is not None]
    if volume.get("ephemeral") is not None:
        claim = part(volume, "ephemeral", "volumeClaimTemplate", "spec")
        found += fractional_storage(claim, f"{path}.ephemeral.volumeClaimTemplate.spec")
    return found


def fractional_storage(claim: Object, path: str) -> list[str]:
    """Of the spec of a PersistentVolumeClaim: bytes come in whole numbers."""
    storage = part(claim, "resources", "requests").get("storage")
    if storage is None or nanos(storage) % 10**9 == 0:
        return []
    return [f'{path}.resources.requests[storage]: fractional byte value "{storage}" is invalid, must be an integer']


def _container(container: Object, path: str) -> list[str]:
    warnings: list[str] = []
    for kind in ("limits", "requests"):
        for name, amount in part(container, "resources", kind).items():
            if name in ("memory", "ephemeral-storage") and nanos(amount) % 10**9:
                warnings.append(
                    f'{path}.resources.{kind}[{name}]: fractional byte value "{amount}" is invalid, must be an integer'
                )
    warnings += _hidden_env(container, path)
    for at, port in each(f"{path}.ports", container.get("ports")):
        if text(port, "hostIP") and not port.get("hostPort"):
            warnings.append(f"{at}: hostIP set without hostPort: {_go_port(port)}")
    return warnings


def _hidden_env(container: Object, path: str) -> list[str]:
    """A variable that is given twice hides its first value, unless the second refers to it."""
    warnings: list[str] = []
    seen: dict[str, Object] = {}
    for at, variable in each(f"{path}.env", container.get("env")):
        name = text(variable, "name")
        if name in seen and f"$({name})" not in text(variable, "value"):
            warnings.append(f'{at}: hides previous definition of "{name}", which may be dropped when using apply')
        seen[name] = variable
    return warnings


def _go_port(port: Object) -> str:
    numbers = f"HostPort:{port.get('hostPort') or 0} ContainerPort:{port.get('containerPort') or 0}"
    return f"{{Name:{text(port, 'name')} {numbers} Protocol:{text(port, 'protocol')} HostIP:{text(port, 'hostIP')}}}"


def _duplicate_ports(spec: Object, path: str) -> list[str]:
    warnings: list[str] = []
    seen: dict[tuple[Any, ...], str] = {}
    for container_at, container in each(f"{path}.containers", spec.get("containers")):
        for at, port in each(f"{container_at}.ports", container.get("ports")):
            key = (port.get("containerPort"), text(port, "protocol"), text(port, "hostIP"), port.get("hostPort") or 0)
            if key in seen:
                warnings.append(f"{at}: duplicate port definition with {seen[key]}")
            else:
                seen[key] = at
    return warnings


def _topology(spec: Object, path: str) -> list[str]:
    warnings: list[str] = []
    for at, constraint in each(f"{path}.topologySpreadConstraints", spec.get("topologySpreadConstraints")):
        key = text(constraint, "topologyKey")
        if key in _DEPRECATED_LABELS:
            warnings.append(f"{at}.topologyKey: {key} is {_DEPRECATED_LABELS[key]}")
        selector: Object | None = constraint.get("labelSelector")
        if selector is None or not (selector.get("matchLabels") or selector.get("matchExpressions")):
            warnings.append(
                f"{at}.labelSelector: a null labelSelector results in matching no pod" if selector is None else ""
            )
    return [w for w in warnings if w]
