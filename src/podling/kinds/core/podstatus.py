"""Validation of `pods/NAME/status`, which the kubelet and the scheduler write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from podling.api.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
    too_long,
)
from podling.kinds.core import podannotations
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_SYSTEM_CONDITIONS: Final = ("PodScheduled", "Ready", "Initialized")
_HEALTH: Final = ("Healthy", "Unhealthy", "Unknown")
_LONGEST_HEALTH: Final = 1024
_MAX_USER: Final = 2**32 - 1
_MAX_GROUP: Final = 2**31 - 1
CONTAINER_STATUSES: Final = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


def rules(obj: Object, old: Object) -> list[FieldError]:
    """The rules of `ValidatePodStatusUpdate`, in its order; those of `metadata` come before."""
    after, before, spec = part(obj, "status"), part(old, "status"), part(obj, "spec")
    annotations = part(obj, "metadata", "annotations")
    errors = podannotations.changes(annotations, part(old, "metadata", "annotations"), "metadata.annotations")
    errors += podannotations.rules(annotations, spec, "metadata.annotations")
    errors += _conditions(after)
    errors += _nominated(after, before, spec)
    if (generation := after.get("observedGeneration") or 0) < 0:
        errors.append(invalid_value("status.observedGeneration", generation, "must be a non-negative integer"))
    errors += fields.immutable("status.qosClass", after.get("qosClass"), before.get("qosClass"))
    for key in CONTAINER_STATUSES:
        errors += _no_resurrection(after, before, key, part(old, "spec"))
    errors += _claims(after.get("resourceClaimStatuses"), spec)
    errors += _extended_claim(after.get("extendedResourceClaimStatus"), spec)
    errors += _pod_ips(after, before) + _host_ips(after, before)
    for key in CONTAINER_STATUSES:
        errors += _users(after.get(key), f"status.{key}", text(part(spec, "os"), "name") or "linux")
    for key, held in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
        errors += _allocated(after.get(key), f"status.{key}", entries(spec, held), after)
    for at, status in each("status.ephemeralContainerStatuses", after.get("ephemeralContainerStatuses")):
        if status.get("allocatedResourcesStatus"):
            detail = "must not be specified in container status"
            errors.append(forbidden_field(f"{at}.allocatedResourcesStatus", detail))
    return errors


def _conditions(status: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, condition in each("status.conditions", status.get("conditions")):
        generation, kind = condition.get("observedGeneration") or 0, text(condition, "type")
        if generation < 0:
            errors.append(invalid_value(f"{at}.observedGeneration", generation, "must be a non-negative integer"))
        if kind not in _SYSTEM_CONDITIONS:
            errors += fields.check(f"{at}.Type", kind, names.qualified_name)
    return errors


def _nominated(after: Object, before: Object, spec: Object) -> list[FieldError]:
    node, path = text(after, "nominatedNodeName"), "status.nominatedNodeName"
    if not node or node == text(before, "nominatedNodeName"):
        return []
    errors = fields.check(path, node, names.dns1123_subdomain)
    if text(spec, "nodeName"):
        errors.append(forbidden_field(path, "may not be set on pods that are already bound to a node"))
    return errors


# Containers that have ended


def _no_resurrection(after: Object, before: Object, key: str, spec: Object) -> list[FieldError]:
    """A container that has ended for good stays ended."""
    if key != "ephemeralContainerStatuses" and _all_could_restart(spec):
        return []
    holders = {"containerStatuses": "containers", "initContainerStatuses": "initContainers"}
    containers = {text(c, "name"): c for c in entries(spec, holders.get(key, ""))}
    now = {text(status, "name"): status for status in entries(after, key)}
    errors: list[FieldError] = []
    for at, was in each(f"status.{key}", before.get(key)):
        ended, status = part(was, "state").get("terminated"), now.get(text(was, "name"))
        if ended is None or status is None or part(status, "state").get("terminated") is not None:
            continue
        container = containers.get(text(was, "name"))
        if container is None or not _restarts(container, spec, ended.get("exitCode") or 0):
            errors.append(forbidden_field(f"{at}.state", "may not be transitioned to non-terminated state"))
    return errors


def _all_could_restart(spec: Object) -> bool:
    """Whether the end of one container may start all of them again."""
    return any(
        rule.get("action") == "RestartAllContainers"
        for key in ("initContainers", "containers")
        for container in entries(spec, key)
        for rule in entries(container, "restartPolicyRules")
    )


def _restarts(container: Object, spec: Object, code: int) -> bool:
    policy = text(container, "restartPolicy")
    if policy and any(_matches(rule, code) for rule in entries(container, "restartPolicyRules")):
        return True
    return {"Never": False, "OnFailure": code != 0}.get(policy or text(spec, "restartPolicy"), True)


def _matches(rule: Object, code: int) -> bool:
    codes: Object | None = rule.get("exitCodes")
    if codes is None:
        return False
    return (code in entries(codes, "values")) == (codes.get("operator") == "In")


# Claims of devices


def _claims(statuses: Sequence[Object] | None, spec: Object) -> list[FieldError]:
    known = {text(c, "name") for c in entries(spec, "resourceClaims")}
    seen: set[str] = set()
    errors: list[FieldError] = []
    for at, status in each("status.resourceClaimStatuses", statuses):
        name = text(status, "name")
        if name not in known:
            detail = "must match the name of an entry in `spec.resourceClaims`"
            errors.append(invalid_value(f"{at}.name", name, detail))
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        if (claim := status.get("resourceClaimName")) is not None:
            errors += fields.check(f"{at}.name", claim, names.dns1123_subdomain)
    return errors


_MAPPING: Final = ("containerName", "resourceName", "requestName")


def _extended_claim(status: Object | None, spec: Object) -> list[FieldError]:
    if status is None:
        return []
    path = "status.extendedResourceClaimStatus"
    containers = {text(c, "name"): c for key in ("initContainers", "containers") for c in entries(spec, key)}
    mappings: Sequence[Object] = entries(status, "requestMappings")
    errors: list[FieldError] = []
    if not mappings:
        errors.append(required(f"{path}.requestMappings", "at least one request mapping is required"))
    seen: set[tuple[str, ...]] = set()
    for at, mapping in each(f"{path}.requestMappings", mappings):
        errors += _mapped(mapping, containers, at)
        errors += fields.check(f"{path}.requestName", text(mapping, "requestName"), names.dns1123_label)
        key = tuple(text(mapping, name) for name in _MAPPING)
        if key in seen:
            errors += [duplicate(f"{at}.{name}", text(mapping, name)) for name in _MAPPING]
        seen.add(key)
    claim = text(status, "resourceClaimName")
    return errors + fields.check_required(f"{path}.resourceClaimName", claim, names.dns1123_subdomain)


def _mapped(mapping: Object, containers: dict[str, Object], path: str) -> list[FieldError]:
    container, resource = containers.get(text(mapping, "containerName")), text(mapping, "resourceName")
    if container is None:
        detail = "must match the name of an entry in spec.initContainers.name or spec.containers.name"
        return [invalid_value(f"{path}.containerName", text(mapping, "containerName"), detail)]
    if resource in part(container, "resources", "requests"):
        return []
    detail = (
        "must match the extended resource name of an entry in spec.initContainers.resources.requests "
        "or spec.containers.resources.requests"
    )
    return [invalid_value(f"{path}.resourceName", resource, detail)]


# Addresses


def _addresses(items: Sequence[Object] | None, before: Sequence[Object], path: str) -> list[FieldError]:
    """Each is one, and there is at most one of each family."""
    held = {text(item, "ip") for item in before}
    given = [text(item, "ip") for item in items or ()]
    errors: list[FieldError] = []
    for at, address in each(path, given):
        if address not in held:
            errors += fields.check(at, address, names.ip)
    if len(given) > 1 and (len(given) > 2 or (":" in given[0]) == (":" in given[1])):
        shown = [{"IP": address} for address in given]
        errors.append(invalid_value(path, shown, "may specify no more than one IP for each IP family"))
    return errors


def _pod_ips(after: Object, before: Object) -> list[FieldError]:
    return _addresses(after.get("podIPs"), entries(before, "podIPs"), "status.podIPs")


def _host_ips(after: Object, before: Object) -> list[FieldError]:
    items: Sequence[Object] = entries(after, "hostIPs")
    if not items:
        return []
    errors: list[FieldError] = []
    if text(after, "hostIP") != text(items[0], "ip"):
        errors.append(invalid_value("status.hostIPs[0].ip", text(items[0], "ip"), "must be equal to `hostIP`"))
    return errors + _addresses(items, entries(before, "hostIPs"), "status.hostIPs")


# Who runs, and what it has got


def _users(statuses: Sequence[Object] | None, path: str, os: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, status in each(path, statuses):
        user: Object | None = part(status, "user").get("linux")
        if user is None:
            continue
        if os == "windows":
            errors.append(forbidden_field(f"{at}.user.linux", "cannot be set for a windows pod"))
            continue
        errors += _id(user.get("uid"), f"{at}.user.linux.uid", _MAX_USER)
        errors += _id(user.get("gid"), f"{at}.user.linux.gid", _MAX_GROUP)
        for group_at, group in each(f"{at}.user.linux.supplementalGroups", user.get("supplementalGroups")):
            errors += _id(group, group_at, _MAX_GROUP)
    return errors


def _id(value: int | None, path: str, most: int) -> list[FieldError]:
    number = value or 0
    if 0 <= number <= most:
        return []
    return [invalid_value(path, number, f"must be between 0 and {most}, inclusive")]


def _allocated(
    statuses: Sequence[Object] | None, path: str, containers: Sequence[Object], status: Object
) -> list[FieldError]:
    """The health of devices, which are told by the resource or the claim that they came by."""
    by_name = {text(c, "name"): c for c in containers}
    errors: list[FieldError] = []
    for container_at, container_status in each(path, statuses):
        container = by_name.get(text(container_status, "name"))
        allocated = container_status.get("allocatedResourcesStatus")
        for at, resource in each(f"{container_at}.allocatedResourcesStatus", allocated):
            if container is not None:
                errors += _asked_for(text(resource, "name"), container, status, f"{at}.name")
            errors += _health(resource.get("resources"), f"{at}.resources")
    return errors


def _asked_for(name: str, container: Object, status: Object, path: str) -> list[FieldError]:
    requests = part(container, "resources", "requests")
    if not name.startswith("claim:"):
        detail = "must match one of the container's resource requests"
        return [] if name in requests else [invalid_value(path, name, detail)]
    claims = entries(part(container, "resources"), "claims")
    known = {"/".join(filter(None, (f"claim:{text(c, 'name')}", text(c, "request")))) for c in claims}
    extended = part(status, "extendedResourceClaimStatus")
    for mapping in entries(extended, "requestMappings"):
        if text(mapping, "containerName") == text(container, "name") and text(mapping, "resourceName") in requests:
            known.add(f"claim:{text(extended, 'resourceClaimName')}/{text(mapping, 'requestName')}")
    if name in known:
        return []
    detail = (
        "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' "
        "or 'claim:<claimName>' if request is empty"
    )
    return [invalid_value(path, name, detail)]


def _health(resources: Sequence[Object] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, resource in each(path, resources):
        health, name, message = text(resource, "health"), text(resource, "resourceID"), resource.get("message")
        if health not in _HEALTH:
            errors.append(not_supported(f"{at}.health", health, sorted(_HEALTH)))
        if message is not None and not message:
            errors.append(required(f"{at}.message", "must be non-empty if specified"))
        elif message is not None and len(message) > _LONGEST_HEALTH:
            errors.append(too_long(f"{at}.message", _LONGEST_HEALTH))
        if name in seen:
            errors.append(duplicate(f"{at}.resourceID", name))
        seen.add(name)
    return errors
