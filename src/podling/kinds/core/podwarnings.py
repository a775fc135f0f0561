"""Warnings about pods that are accepted and yet probably not meant (`pkg/api/pod/warnings.go`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from podling.api import quantity
from podling.api.resources import Write
from podling.kinds.core import podannotations
from podling.kinds.core.containers import visit
from podling.kinds.validation import names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

DEPRECATED_LABELS: Final = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
"""Labels of nodes, and what is said of who goes by them."""

_DEPRECATED_ANNOTATIONS: Final = {
    "scheduler.alpha.kubernetes.io/critical-pod": (
        'non-functional in v1.16+; use the "priorityClassName" field instead'
    ),
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_NO_SELECTOR: Final = "a null labelSelector results in matching no pod"


def warn(write: Write) -> None:
    """Warns about a new pod. Changes of pods are made by machines mostly, so nothing is said of them."""
    if write.operation != "CREATE":
        if write.subresource == "status":
            write.warnings += _addresses(part(write.new, "status"))
        return
    if wrong := names.dns1123_label(text(part(write.new, "metadata"), "name")):
        says = "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended"
        write.warnings.append(f"metadata.name: {says}: [{' '.join(wrong)}]")
    write.warnings += _of(write.new, "")


def _addresses(status: Object) -> list[str]:
    return [
        warning
        for key in ("podIPs", "hostIPs")
        for at, item in each(f"status.{key}", status.get(key))
        for warning in names.ip_warnings(f"{at}.ip", text(item, "ip"))
    ]


def of_template(template: Object, path: str) -> list[str]:
    """`path` is the template's: `spec.template`."""
    return _of(template, f"{path}.")


def _of(pod: Object, path: str) -> list[str]:
    """Of a pod or a template; `path` is what comes before `metadata` and `spec`."""
    annotations, spec, at = part(pod, "metadata", "annotations"), part(pod, "spec"), f"{path}spec"
    warnings = _placement(spec, at)
    for key, says in _DEPRECATED_ANNOTATIONS.items():
        if key in annotations:
            warnings.append(f"{path}metadata.annotations[{key}]: {says}")
    for volume_at, volume in each(f"{at}.volumes", spec.get("volumes")):
        warnings += _volume(volume, volume_at)
    for volume in entries(spec, "volumes"):
        warnings += _overlapping_files(volume)
    warnings += _twice(f"{at}.hostAliases", spec.get("hostAliases"), "ip")
    warnings += _twice(f"{at}.imagePullSecrets", spec.get("imagePullSecrets"), "name")
    for secret_at, secret in each(f"{at}.imagePullSecrets", spec.get("imagePullSecrets")):
        if not text(secret, "name"):
            warnings.append(f'{secret_at}.name: invalid empty name ""')
    for name in ("memory", "ephemeral-storage"):
        warnings += fractional(part(spec, "overhead"), name, f"{at}.overhead")
    warnings += _seccomp(annotations, part(spec, "securityContext"), podannotations.SECCOMP_POD, path)
    for container_at, container in visit(spec, at):
        warnings += _profiles(container, spec, annotations, path)
        warnings += _container(container, container_at)
    warnings += _ports(spec, at) + _port_names(spec, at)
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        says = "must be >= 0; negative values are invalid and will be treated as 1"
        warnings.append(f"{at}.terminationGracePeriodSeconds: {says}")
    return warnings + _pod_affinity(spec, f"{at}.affinity") + _given_addresses(spec, at)


# Where it may run


def _placement(spec: Object, path: str) -> list[str]:
    warnings = [
        f"{path}.nodeSelector[{key}]: {DEPRECATED_LABELS[key]}"
        for key in part(spec, "nodeSelector")
        if key in DEPRECATED_LABELS
    ]
    affinity, at = part(spec, "affinity", "nodeAffinity"), f"{path}.affinity.nodeAffinity"
    terms = part(affinity, _REQUIRED).get("nodeSelectorTerms")
    for term_at, term in each(f"{at}.{_REQUIRED}.nodeSelectorTerms", terms):
        warnings += node_selector_term(term, term_at)
    for term_at, term in each(f"{at}.{_PREFERRED}", affinity.get(_PREFERRED)):
        warnings += node_selector_term(part(term, "preference"), f"{term_at}.preference", check_values=True)
    for spread_at, constraint in each(f"{path}.topologySpreadConstraints", spec.get("topologySpreadConstraints")):
        key = text(constraint, "topologyKey")
        if key in DEPRECATED_LABELS:
            warnings.append(f"{spread_at}.topologyKey: {key} is {DEPRECATED_LABELS[key]}")
        if constraint.get("labelSelector") is None:
            warnings.append(f"{spread_at}.labelSelector: {_NO_SELECTOR}")
    return warnings


def node_selector_term(term: Object, path: str, *, check_values: bool = False) -> list[str]:
    """With `check_values` also of values that no label can have."""
    warnings: list[str] = []
    for at, expression in each(f"{path}.matchExpressions", term.get("matchExpressions")):
        key = text(expression, "key")
        if key in DEPRECATED_LABELS:
            warnings.append(f"{at}.key: {key} is {DEPRECATED_LABELS[key]}")
        for value_at, value in each(f"{at}.values", expression.get("values") if check_values else ()):
            warnings += [f"{value_at}: {value} is invalid, {message}" for message in names.label_value(value)]
    return warnings


def _pod_affinity(spec: Object, path: str) -> list[str]:
    warnings: list[str] = []
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity = part(spec, "affinity", kind)
        for at, term in each(f"{path}.{kind}.{_REQUIRED}", affinity.get(_REQUIRED)):
            if term.get("labelSelector") is None:
                warnings.append(f"{at}.labelSelector: {_NO_SELECTOR}")
        for at, weighted in each(f"{path}.{kind}.{_PREFERRED}", affinity.get(_PREFERRED)):
            if part(weighted, "podAffinityTerm").get("labelSelector") is None:
                warnings.append(f"{at}.podAffinityTerm.labelSelector: {_NO_SELECTOR}")
    return warnings


def _given_addresses(spec: Object, path: str) -> list[str]:
    warnings: list[str] = []
    for at, server in each(f"{path}.dnsConfig.nameservers", part(spec, "dnsConfig").get("nameservers")):
        warnings += names.ip_warnings(at, server)
    for at, alias in each(f"{path}.hostAliases", spec.get("hostAliases")):
        warnings += names.ip_warnings(f"{at}.ip", text(alias, "ip"))
    return warnings


def _twice(path: str, items: Sequence[Object] | None, key: str) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    for at, item in each(path, items):
        value = text(item, key)
        if value in seen:
            found.append(f'{at}.{key}: duplicate {key} "{value}"')
        seen.add(value)
    return found


# Volumes

_REMOVED_VOLUMES: Final = {
    "photonPersistentDisk": "photonPersistentDisk: deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "scaleIO: deprecated in v1.16, non-functional in v1.22+",
    "flocker": "flocker: deprecated in v1.22, non-functional in v1.25+",
    "storageos": "storageOS: deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "quobyte: deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "glusterfs: deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "cephfs: deprecated in v1.28, non-functional in v1.31+",
    "rbd": "rbd: deprecated in v1.28, non-functional in v1.31+",
}


def removed_source(volume: Object, path: str) -> list[str]:
    """Of a volume (a pod's or a PersistentVolume's) whose driver Kubernetes has no more."""
    return [f"{path}.{says}" for kind, says in _REMOVED_VOLUMES.items() if volume.get(kind) is not None]


def _volume(volume: Object, path: str) -> list[str]:
    claim = part(volume, "ephemeral", "volumeClaimTemplate", "spec")
    return removed_source(volume, path) + of_claim(claim, f"{path}.ephemeral.volumeClaimTemplate.spec")


def of_claim(spec: Object, path: str) -> list[str]:
    """Of the spec of a PersistentVolumeClaim."""
    return [
        warning
        for kind in ("requests", "limits")
        for warning in fractional(part(spec, "resources", kind), "storage", f"{path}.resources.{kind}")
    ]


def fractional(amounts: Object, name: str, path: str) -> list[str]:
    """Bytes come whole."""
    amount = quantity.of(amounts.get(name) or "0")
    if amount.milli % 1000 == 0:
        return []
    return [f'{path}[{name}]: fractional byte value "{amount}" is invalid, must be an integer']


class _File(NamedTuple):
    path: str
    source: str

    def __str__(self) -> str:
        return f'"{self.path}" ({self.source})' if self.source else f'"{self.path}"'


_FILES: Final = {
    "configMap": ("ConfigMap", "name"),
    "secret": ("Secret", "secretName"),
    "downwardAPI": ("DownwardAPI", ""),
}


def _overlapping_files(volume: Object) -> list[str]:
    name = text(volume, "name")
    warnings: list[str] = []
    for kind, (called, key) in _FILES.items():
        source: Object | None = volume.get(kind)
        if source is not None:
            shown = f'{called} "{text(source, key)}"' if key else called
            files = [_File(text(item, "path"), "") for item in entries(source, "items")]
            warnings += [f'volume "{name}" ({shown}): overlapping paths: {pair}' for pair in _overlaps(files)]
    if volume.get("projected") is not None:
        sources = entries(volume["projected"], "sources")
        files = [file for source in sources for file in _projected_files(source)]
        empty = sum(not any(value is not None for value in source.values()) for source in sources)
        warnings += [f'volume "{name}" (Projected) has no sources provided'] * empty
        warnings += [f'volume "{name}" (Projected): overlapping paths: {pair}' for pair in _overlaps(files)]
    return warnings


def _projected_files(source: Object) -> Iterable[_File]:
    for kind, called in (("configMap", "ConfigMap"), ("secret", "Secret")):
        held = part(source, kind)
        if held.get("items") is not None:
            return [_File(text(i, "path"), f'{called} "{text(held, "name")}"') for i in held["items"]]
    if part(source, "downwardAPI").get("items") is not None:
        return [_File(text(i, "path"), "DownwardAPI") for i in source["downwardAPI"]["items"]]
    if source.get("serviceAccountToken") is not None:
        return [_File(text(source["serviceAccountToken"], "path"), "ServiceAccountToken")]
    return []


def _overlaps(files: Sequence[_File]) -> list[str]:
    """Each file that is another one too, or lies in it, or holds it."""
    found: list[str] = []
    earlier: list[_File] = []
    for given in files:
        file = given._replace(path=given.path.rstrip("/"))
        for other in earlier:
            inside = f"{file.path}/".startswith(f"{other.path}/") or f"{other.path}/".startswith(f"{file.path}/")
            if file.path and other.path and inside:
                found.append(f"{file} with {other}")
        earlier.append(file)
    return found


# Containers


def _container(container: Object, path: str) -> list[str]:
    warnings: list[str] = []
    for name in ("memory", "ephemeral-storage"):
        for kind in ("limits", "requests"):
            warnings += fractional(part(container, "resources", kind), name, f"{path}.resources.{kind}")
    return warnings + _hidden_env(container, path)


def _profiles(container: Object, spec: Object, annotations: Object, prefix: str) -> list[str]:
    """Annotations that have become fields. Of a pod (which has no prefix) AppArmor's are told when they do."""
    name, context = text(container, "name"), part(container, "securityContext")
    warnings = _seccomp(annotations, context, podannotations.SECCOMP_CONTAINER + name, prefix)
    written = annotations.get(podannotations.APP_ARMOR + name)
    if not prefix or written is None or context.get("appArmorProfile") is not None:
        return warnings
    of_pod = part(spec, "securityContext").get("appArmorProfile")
    if of_pod is None or of_pod != podannotations.app_armor_profile(written):
        warnings.append(app_armor_annotation(name, prefix))
    return warnings


def _seccomp(annotations: Object, context: Object, key: str, prefix: str) -> list[str]:
    if key not in annotations or context.get("seccompProfile") is not None:
        return []
    return [f'{prefix}metadata.annotations[{key}]: non-functional in v1.27+; use the "seccompProfile" field instead']


def app_armor_annotation(container: str, prefix: str = "") -> str:
    key = podannotations.APP_ARMOR + container
    return f'{prefix}metadata.annotations[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead'


def _hidden_env(container: Object, path: str) -> list[str]:
    """A variable that is given twice hides its first value, unless the second refers to it."""
    warnings: list[str] = []
    seen: set[str] = set()
    for at, variable in each(f"{path}.env", container.get("env")):
        name, value = text(variable, "name"), text(variable, "value")
        reference = f"$({name})"
        hides = variable.get("valueFrom") is not None or value == reference or reference not in value
        if name in seen and hides:
            warnings.append(f'{at}: hides previous definition of "{name}", which may be dropped when using apply')
        seen.add(name)
    return warnings


def _go_port(port: Object) -> str:
    numbers = f"HostPort:{port.get('hostPort') or 0} ContainerPort:{port.get('containerPort') or 0}"
    return f"{{Name:{text(port, 'name')} {numbers} Protocol:{text(port, 'protocol')} HostIP:{text(port, 'hostIP')}}}"


def _ports(spec: Object, path: str) -> list[str]:
    warnings: list[str] = []
    seen: dict[tuple[Any, str], list[tuple[str, Object]]] = {}
    for container_at, container in visit(spec, path):
        for at, port in each(f"{container_at}.ports", container.get("ports")):
            if text(port, "hostIP") and not port.get("hostPort"):
                warnings.append(f"{at}: hostIP set without hostPort: {_go_port(port)}")
            others = seen.setdefault((port.get("containerPort") or 0, text(port, "protocol")), [])
            for other_at, other in others:
                if clash := _clash(port, other):
                    warnings.append(f"{at}: {clash} port definition with {other_at}")
            others.append((at, port))
    return warnings


def _clash(port: Object, other: Object) -> str:
    """How two ports of one number and protocol come into each other's way; `""` when they do not."""
    host, other_host = port.get("hostPort") or 0, other.get("hostPort") or 0
    address, other_address = text(port, "hostIP"), text(other, "hostIP")
    if (address, host) == (other_address, other_host):
        return "duplicate"
    if not host or not other_host:
        return "overlapping"
    return "dangerously ambiguous" if host == other_host and bool(address) != bool(other_address) else ""


def _port_names(spec: Object, path: str) -> list[str]:
    warnings: list[str] = []
    seen: dict[str, str] = {}
    for container_at, container in visit(spec, path):
        for at, port in each(f"{container_at}.ports", container.get("ports")):
            name = text(port, "name")
            if name in seen:
                says = f"services and probes that select ports by name will use {seen[name]}"
                warnings.append(f'{at}: duplicate port name "{name}" with {seen[name]}, {says}')
            elif name:
                seen[name] = at
    return warnings
