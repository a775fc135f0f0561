"""Defaults of a pod: for Pods themselves, and for the templates that every workload carries.

The source of the rules is Kubernetes' `pkg/apis/core/v1/defaults.go`. Each function fills one object in place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from podling.api import quantity
from podling.kinds.core.requirements import is_huge_page, of_containers, overcommitted, pod_level
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

DEFAULT_MODE: Final = 0o644
_MILLI: Final = quantity.NANO // 1000
CONTAINER_LISTS: Final = ("initContainers", "containers", "ephemeralContainers")

_SPEC: Final = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
}
_PROBE: Final = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")

_TAG: Final = r"[\w][\w.-]{0,127}"
_DIGEST: Final = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_HOST_PART: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST: Final = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/"
_PATH: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE: Final = rf"(?:{_HOST})?{_PATH}(?:/{_PATH})*(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"


def fill(obj: Object, key: str, value: Any) -> None:
    """Sets a field that is absent or, as Go cannot tell the difference, empty."""
    if obj.get(key) in (None, ""):
        obj[key] = value


def fill_zero(obj: Object, key: str, value: Any) -> None:
    """Sets a number that is absent or 0."""
    if not obj.get(key):
        obj[key] = value


def pod(obj: Object) -> None:
    """Defaults of a Pod: those of its spec, and some that templates do not get."""
    spec: Object = obj.setdefault("spec", {})
    for name in ("initContainers", "containers"):
        for container in entries(spec, name):
            _requests_from_limits(part(container, "resources"))
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    if spec.get("hostNetwork"):
        _host_ports(spec)
    pod_spec(spec)
    _pod_level(spec)
    _addresses(obj.setdefault("status", {}))


def _addresses(status: Object) -> None:
    """`podIP` is the first of `podIPs`; where both are written and differ, it counts, as older kubelets want it."""
    addresses: list[Object] = entries(status, "podIPs")
    first = text(status, "podIP")
    if first and (not addresses or addresses[0].get("ip") != first):
        status["podIPs"] = [{"ip": first}]
    elif addresses and not first:
        status["podIP"] = addresses[0].get("ip", "")


def pod_template(template: Object) -> None:
    """Defaults of a `PodTemplateSpec`."""
    template.setdefault("metadata", {})
    pod_spec(template.setdefault("spec", {}))


def pod_spec(spec: Object) -> None:
    for key, value in _SPEC.items():
        fill(spec, key, value)
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    spec.setdefault("containers", None)
    _service_account(spec)
    for container in containers(spec):
        _container(container)
    for volume in entries(spec, "volumes"):
        _volume(volume)
    if spec.get("overhead"):
        resource_list(spec["overhead"])
    requirements(spec.get("resources"))


def containers(spec: Object) -> Iterator[Object]:
    for name in CONTAINER_LISTS:
        yield from entries(spec, name)


def _service_account(spec: Object) -> None:
    """`serviceAccount` is the old name of `serviceAccountName`; both are always shown."""
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    for key in ("serviceAccountName", "serviceAccount"):
        if name:
            spec[key] = name
        else:
            spec.pop(key, None)


def _container(container: Object) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image") or "")
    fill(container, "terminationMessagePath", "/dev/termination-log")
    fill(container, "terminationMessagePolicy", "File")
    container["resources"] = part(container, "resources")
    requirements(container["resources"])
    for port in entries(container, "ports"):
        fill(port, "protocol", "TCP")
    for variable in entries(container, "env"):
        _env(variable)
    for name in _PROBES:
        _probe(container.get(name))
    for hook in ("postStart", "preStop"):
        _handler(part(container, "lifecycle").get(hook))


def pull_policy(image: str) -> str:
    """`Always` for a tag that moves: `latest`, or no tag and no digest."""
    found = re.fullmatch(_REFERENCE, image, re.ASCII)
    if found is None:
        return "IfNotPresent"
    tag = found["tag"] or ("" if found["digest"] else "latest")
    return "Always" if tag == "latest" else "IfNotPresent"


def _env(variable: Object) -> None:
    source: Object = part(variable, "valueFrom")
    if (reference := source.get("fieldRef")) is not None:
        fill(reference, "apiVersion", "v1")
    if (reference := source.get("resourceFieldRef")) is not None:
        fill(reference, "divisor", "0")
    if (reference := source.get("fileKeyRef")) is not None and reference.get("optional") is None:
        reference["optional"] = False


def _probe(probe: Object | None) -> None:
    if probe is None:
        return
    for key, value in _PROBE.items():
        fill_zero(probe, key, value)
    _handler(probe)
    grpc: Object | None = probe.get("grpc")
    if grpc is not None and grpc.get("service") is None:
        grpc["service"] = ""


def _handler(handler: Object | None) -> None:
    get: Object | None = (handler or {}).get("httpGet")
    if get is not None:
        fill(get, "path", "/")
        fill(get, "scheme", "HTTP")


def _secret_like(source: Object) -> None:
    if source.get("defaultMode") is None:
        source["defaultMode"] = DEFAULT_MODE


def _downward_items(source: Object) -> None:
    for item in entries(source, "items"):
        if item.get("fieldRef") is not None:
            fill(item["fieldRef"], "apiVersion", "v1")
        if item.get("resourceFieldRef") is not None:
            fill(item["resourceFieldRef"], "divisor", "0")


def _downward(source: Object) -> None:
    _secret_like(source)
    _downward_items(source)


def _projected(source: Object) -> None:
    _secret_like(source)
    source["sources"] = source.get("sources") or None
    for projection in source["sources"] or ():
        token: Object | None = projection.get("serviceAccountToken")
        if token is not None and token.get("expirationSeconds") is None:
            token["expirationSeconds"] = 3600
        if projection.get("downwardAPI") is not None:
            _downward_items(projection["downwardAPI"])


def _host_path(source: Object) -> None:
    if source.get("type") is None:
        source["type"] = ""


def _iscsi(source: Object) -> None:
    fill(source, "iscsiInterface", "default")


def _rbd(source: Object) -> None:
    for key, value in (("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")):
        fill(source, key, value)


def _azure_disk(source: Object) -> None:
    for key, value in (("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4"), ("readOnly", False)):
        if source.get(key) is None:
            source[key] = value


def _scale_io(source: Object) -> None:
    fill(source, "storageMode", "ThinProvisioned")
    fill(source, "fsType", "xfs")


def _ephemeral(source: Object) -> None:
    template: Object | None = source.get("volumeClaimTemplate")
    if template is not None:
        template.setdefault("metadata", {})
        claim_spec(template.setdefault("spec", {}))


def _image(source: Object) -> None:
    if not source.get("pullPolicy"):
        source["pullPolicy"] = pull_policy(source.get("reference") or "")


VOLUME_SOURCES: Final[dict[str, Callable[[Object], None]]] = {
    "secret": _secret_like,
    "configMap": _secret_like,
    "downwardAPI": _downward,
    "projected": _projected,
    "hostPath": _host_path,
    "iscsi": _iscsi,
    "rbd": _rbd,
    "azureDisk": _azure_disk,
    "scaleIO": _scale_io,
    "ephemeral": _ephemeral,
    "image": _image,
}
"""What each source of a volume (a pod's or a PersistentVolume's) gets by default."""


def volume_source(volume: Object) -> None:
    for name, defaults in VOLUME_SOURCES.items():
        if volume.get(name) is not None:
            defaults(volume[name])


def _volume(volume: Object) -> None:
    if all(value is None for key, value in volume.items() if key != "name"):
        volume["emptyDir"] = {}
    volume_source(volume)


def claim_spec(spec: Object) -> None:
    """Defaults of a `PersistentVolumeClaimSpec`."""
    spec.setdefault("volumeMode", "Filesystem")
    spec.setdefault("resources", {})
    requirements(spec["resources"])


def requirements(resources: Object | None) -> None:
    for key in ("limits", "requests"):
        if resources and resources.get(key):
            resource_list(resources[key])


def resource_list(amounts: Object) -> None:
    """Amounts finer than a thousandth are rounded up to one."""
    for name, amount in amounts.items():
        exact = quantity.of(amount)
        if exact.nanos % _MILLI:
            amounts[name] = str(exact._replace(nanos=-(-exact.nanos // _MILLI) * _MILLI))


def _requests_from_limits(resources: Object) -> None:
    limits: Object = part(resources, "limits")
    if limits:
        resources["requests"] = {**limits, **part(resources, "requests")}


def _host_ports(spec: Object) -> None:
    """In the host's network a container's port is the host's port."""
    for name in ("containers", "initContainers"):
        for container in entries(spec, name):
            for port in entries(container, "ports"):
                fill_zero(port, "hostPort", port.get("containerPort") or 0)


def _pod_level(spec: Object) -> None:
    """What the whole pod asks for, where it says something: its containers' sum, or else its own limits."""
    resources: Object = part(spec, "resources")
    limits, requests = part(resources, "limits"), part(resources, "requests")
    if limits or requests:
        sums = of_containers(spec, "limits")
        pages = {name: str(total) for name, total in sums.items() if is_huge_page(name) and name not in requests}
        limits = {**pages, **limits}
    if not limits:
        return
    resources["limits"] = limits
    sums = of_containers(spec, "requests")
    asked = {name: str(total) for name, total in sums.items() if pod_level(name) and overcommitted(name)}
    wanted = {**{name: amount for name, amount in limits.items() if pod_level(name)}, **asked, **requests}
    if wanted:
        resources["requests"] = wanted
