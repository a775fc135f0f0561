"""Validation of the containers of a pod (`validateContainers` in pkg/apis/core/validation/validation.go)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from podling.api.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_found_value,
    not_supported,
    required,
)
from podling.kinds.core import requirements
from podling.kinds.core.podsecurity import container_security
from podling.kinds.core.probes import handler, liveness_like, readiness
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES: Final = ("FallbackToLogsOnError", "File")
_PROPAGATIONS: Final = ("Bidirectional", "HostToContainer", "None")
_RECURSIVE_READ_ONLY: Final = ("Disabled", "Enabled", "IfPossible")
_RESIZABLE: Final = ("cpu", "memory")
_RESIZE_POLICIES: Final = ("NotRequired", "RestartContainer")
_EPHEMERAL_FORBIDDEN: Final = ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy")
_SIGNALS: Final = (
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGRTMIN",
    "SIGRTMAX",
    *(f"SIGRTMIN+{n}" for n in range(1, 16)),
    *(f"SIGRTMAX-{n}" for n in range(1, 15)),
)


@dataclass(frozen=True, slots=True)
class PodContext:
    """What a container's rules need to know of the pod around it."""

    volumes: Mapping[str, Object] = field(default_factory=dict[str, Any])
    claims: frozenset[str] = frozenset()
    restart_policy: str = "Always"
    grace_period: int = 30
    host_users: bool = True
    host_network: bool = False
    os: str = ""


def regular(items: Sequence[Object] | None, context: PodContext, path: str) -> list[FieldError]:
    if not items:
        return [required(path)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, container in each(path, items):
        errors += _common(container, context, at)
        errors += _unique_name(container, seen, at)
        errors += _lifecycle(container, context, at)
        errors += liveness_like(container.get("livenessProbe"), context.grace_period, f"{at}.livenessProbe")
        errors += readiness(container.get("readinessProbe"), context.grace_period, f"{at}.readinessProbe")
        errors += liveness_like(container.get("startupProbe"), context.grace_period, f"{at}.startupProbe")
        errors += _restart_policy(container, at, ("Always", "Never", "OnFailure"))
    return errors + _host_port_conflicts(items, path)


def init(
    items: Sequence[Object] | None, others: Sequence[Object] | None, context: PodContext, path: str
) -> list[FieldError]:
    """Init containers; with `restartPolicy: Always` they are sidecars and may be probed."""
    errors: list[FieldError] = []
    seen = {text(c, "name") for c in others or ()}
    for at, container in each(path, items):
        errors += _common(container, context, at)
        errors += _restart_policy(container, at, ("Always", "Never", "OnFailure"))
        errors += _unique_name(container, seen, at)
        if container.get("restartPolicy") == "Always":
            errors += _lifecycle(container, context, at)
            errors += liveness_like(container.get("livenessProbe"), context.grace_period, f"{at}.livenessProbe")
            errors += readiness(container.get("readinessProbe"), context.grace_period, f"{at}.readinessProbe")
            errors += liveness_like(container.get("startupProbe"), context.grace_period, f"{at}.startupProbe")
        else:
            errors += _plain_init(container, at)
        errors += _host_port_conflicts([container], path)
    return errors


def _plain_init(container: Object, path: str) -> list[FieldError]:
    detail = "may not be set for init containers without restartPolicy=Always"
    keys = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
    return [forbidden_field(f"{path}.{k}", detail) for k in keys if container.get(k) is not None]


def ephemeral(items: Sequence[Object] | None, spec: Object, context: PodContext, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    others = [text(c, "name") for k in ("containers", "initContainers") for c in entries(spec, k)]
    seen = set(others)
    for at, container in each(path, items):
        errors += _common(container, context, at)
        errors += _unique_name(container, seen, at)
        target = text(container, "targetContainerName")
        if target and target not in others:
            errors.append(not_found_value(f"{at}.targetContainerName", target))
        errors += _ephemeral_only(container, at)
        for mount_at, mount in each(f"{at}.volumeMounts", container.get("volumeMounts")):
            for key in ("subPath", "subPathExpr"):
                if mount.get(key):
                    errors.append(forbidden_field(f"{mount_at}.{key}", "cannot be set for an Ephemeral Container"))
    return errors


def _ephemeral_only(container: Object, path: str) -> list[FieldError]:
    errors = [
        forbidden_field(f"{path}.{key}", "cannot be set for an Ephemeral Container")
        for key in _EPHEMERAL_FORBIDDEN
        if container.get(key)
    ]
    if container.get("restartPolicy") is not None:
        errors.append(forbidden_field(f"{path}.restartPolicy", "may not be set for non-init containers"))
    if part(container, "resources"):
        errors.append(forbidden_field(f"{path}.resources", "cannot be set for an Ephemeral Container"))
    return errors


def _unique_name(container: Object, seen: set[str], path: str) -> list[FieldError]:
    name = text(container, "name")
    if name and name in seen:
        return [duplicate(f"{path}.name", name)]
    seen.add(name)
    return []


def _restart_policy(container: Object, path: str, valid: Sequence[str]) -> list[FieldError]:
    policy = container.get("restartPolicy")
    errors: list[FieldError] = []
    if policy is not None:
        errors += fields.one_of(f"{path}.restartPolicy", policy, valid)
    elif container.get("restartPolicyRules"):
        errors.append(required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used"))
    for at, rule in each(f"{path}.restartPolicyRules", container.get("restartPolicyRules")):
        errors += _restart_rule(rule, at)
    return errors


def _restart_rule(rule: Object, path: str) -> list[FieldError]:
    errors = fields.one_of_required(f"{path}.action", text(rule, "action"), ("Restart", "RestartAllContainers"))
    codes: Object | None = rule.get("exitCodes")
    if codes is None:
        return [*errors, required(f"{path}.exitCodes", "must be specified")]
    errors += fields.one_of_required(f"{path}.exitCodes.operator", text(codes, "operator"), ("In", "NotIn"))
    if not codes.get("values"):
        errors.append(invalid_value(f"{path}.exitCodes.values", codes.get("values"), "at least one value is required"))
    return errors


def _common(container: Object, context: PodContext, path: str) -> list[FieldError]:
    """The rules of `validateContainerCommon`, in its order."""
    errors = fields.check_required(f"{path}.name", text(container, "name"), names.dns1123_label)
    errors += _image(container, path)
    policy = text(container, "terminationMessagePolicy")
    errors += fields.one_of_required(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES)
    errors += _ports(container.get("ports"), f"{path}.ports")
    errors += env(container.get("env"), f"{path}.env", context.volumes)
    errors += env_from(container.get("envFrom"), f"{path}.envFrom")
    errors += _mounts(container, context, f"{path}.volumeMounts")
    errors += _devices(container, context, f"{path}.volumeDevices")
    errors += fields.one_of_required(f"{path}.imagePullPolicy", text(container, "imagePullPolicy"), _PULL_POLICIES)
    errors += requirements.requirements(part(container, "resources"), f"{path}.resources", claims=context.claims)
    errors += _resize_policy(container, context, f"{path}.resizePolicy")
    errors += container_security(container.get("securityContext"), f"{path}.securityContext", context.host_users)
    return errors


def _image(container: Object, path: str) -> list[FieldError]:
    image = text(container, "image")
    if not image:
        return [required(f"{path}.image")]
    if image != image.strip():
        return [invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace")]
    return []


def _ports(ports: Sequence[Object] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, port in each(path, ports):
        if name := text(port, "name"):
            wrong = names.port_name(name)
            errors += fields.says(f"{at}.name", name, wrong)
            if not wrong and name in seen:
                errors.append(duplicate(f"{at}.name", name))
            seen.add(name)
        number, host = port.get("containerPort") or 0, port.get("hostPort") or 0
        errors += fields.port(f"{at}.containerPort", number) if number else [required(f"{at}.containerPort")]
        if host:
            errors += fields.port(f"{at}.hostPort", host)
        errors += fields.one_of_required(f"{at}.protocol", text(port, "protocol"), PROTOCOLS)
    return errors


def host_network_ports(spec: Object, path: str) -> list[FieldError]:
    """In the host's network a host port must be the container's port."""
    errors: list[FieldError] = []
    if not spec.get("hostNetwork"):
        return errors
    detail = "must match `containerPort` when `hostNetwork` is true"
    for key in ("containers", "initContainers"):
        for container_at, container in each(f"{path}.{key}", spec.get(key)):
            for at, port in each(f"{container_at}.ports", container.get("ports")):
                host = port.get("hostPort") or 0
                if host and host != port.get("containerPort"):
                    errors.append(invalid_value(f"{at}.hostPort", host, detail))
    return errors


def _host_port_conflicts(items: Sequence[Object], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for container_at, container in each(path, items):
        for at, port in each(f"{container_at}.ports", container.get("ports")):
            host = port.get("hostPort") or 0
            if not host:
                continue
            key = f"{text(port, 'protocol')}/{text(port, 'hostIP')}/{host}"
            if key in seen:
                errors.append(duplicate(f"{at}.hostPort", key))
            seen.add(key)
    return errors


# Environment

_ENV_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS: Final = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_KNOWN_FIELDS: Final = frozenset(
    (*_ENV_FIELDS, *VOLUME_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase")
)
_RESOURCES: Final = tuple(f"{k}.{r}" for k in ("limits", "requests") for r in ("cpu", "ephemeral-storage", "memory"))
_SOURCES: Final = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def env(variables: Sequence[Object] | None, path: str, volumes: Mapping[str, Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, variable in each(path, variables):
        errors += fields.check_required(f"{at}.name", text(variable, "name"), names.env_var_name)
        errors += _value_from(variable, f"{at}.valueFrom", volumes)
    return errors


def _value_from(variable: Object, path: str, volumes: Mapping[str, Object]) -> list[FieldError]:
    source: Object | None = variable.get("valueFrom")
    if source is None:
        return []
    given = [key for key in _SOURCES if source.get(key) is not None]
    errors: list[FieldError] = []
    for key in given:
        errors += _env_source(key, source[key], f"{path}.{key}", volumes)
    if not given:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        errors.append(invalid_value(path, "", detail))
    if variable.get("value"):
        if given:
            errors.append(invalid_value(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        errors.append(invalid_value(path, "", "may not have more than one field specified at a time"))
    return errors


def _env_source(kind: str, source: Object, path: str, volumes: Mapping[str, Object]) -> list[FieldError]:
    match kind:
        case "fieldRef":
            return field_ref(source, path, _ENV_FIELDS)
        case "resourceFieldRef":
            return resource_ref(source, path, in_volume=False)
        case "fileKeyRef":
            return _file_key(source, path, volumes)
        case _:
            return _key_ref(source, path)


def _key_ref(source: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if name := text(source, "name"):
        errors += fields.check(f"{path}.name", name, names.dns1123_subdomain)
    return errors + fields.check_required(f"{path}.key", text(source, "key"), names.config_map_key)


def _file_key(source: Object, path: str, volumes: Mapping[str, Object]) -> list[FieldError]:
    volume, key = text(source, "volumeName"), text(source, "key")
    errors = fields.check_required(f"{path}.key", key, names.env_var_name)
    if not volume:
        errors.append(required(f"{path}.volumeName"))
    elif volume not in volumes:
        errors.append(not_found_value(f"{path}.volumeName", volume))
    elif volumes[volume].get("emptyDir") is None:
        detail = "referenced volume must be of type emptyDir"
        errors.append(invalid_value(f"{path}.volumeName", volume, detail))
    if not text(source, "path"):
        errors.append(required(f"{path}.path"))
    else:
        errors += relative_path(text(source, "path"), f"{path}.path")
    return errors


def split_subscript(path: str) -> tuple[str, str] | None:
    """`metadata.labels['app']` as (`metadata.labels`, `app`)."""
    found = re.fullmatch(r"([^\[]+)\['(.*)'\]", path)
    return (found[1], found[2]) if found else None


def field_ref(source: Object, path: str, valid: Sequence[str]) -> list[FieldError]:
    """An `ObjectFieldSelector`: which field of the pod a file or variable shows."""
    errors: list[FieldError] = []
    if not source.get("apiVersion"):
        errors.append(required(f"{path}.apiVersion"))
    wanted = text(source, "fieldPath")
    if not wanted:
        return [*errors, required(f"{path}.fieldPath")]
    subscripted = split_subscript(wanted)
    base = subscripted[0] if subscripted else wanted
    if source.get("apiVersion") != "v1":
        detail = f"error converting fieldPath: unsupported pod version: {text(source, 'apiVersion')}"
        return [*errors, invalid_value(f"{path}.fieldPath", wanted, detail)]
    if subscripted and base not in ("metadata.annotations", "metadata.labels"):
        if base in _KNOWN_FIELDS:
            detail = f"error converting fieldPath: field label does not support subscript: {wanted}"
        else:
            detail = f"error converting fieldPath: field label not supported: {wanted}"
        return [*errors, invalid_value(f"{path}.fieldPath", wanted, detail)]
    if base not in _KNOWN_FIELDS and base != "spec.host":
        return [
            *errors,
            invalid_value(
                f"{path}.fieldPath", wanted, f"error converting fieldPath: field label not supported: {wanted}"
            ),
        ]
    if subscripted:
        key = subscripted[1]
        return errors + fields.says(
            path, key, names.qualified_name(key.lower() if base.endswith("annotations") else key)
        )
    return errors + fields.one_of(f"{path}.fieldPath", wanted, valid)


_DIVISORS: Final = {
    "cpu": ("cpu", ("1m", "1")),
    "memory": ("memory", ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")),
}


def resource_ref(source: Object, path: str, *, in_volume: bool) -> list[FieldError]:
    """A `ResourceFieldSelector`: which limit or request a file or variable shows."""
    resource, errors = text(source, "resource"), list[FieldError]()
    if in_volume and not source.get("containerName"):
        errors.append(required(f"{path}.containerName"))
    elif not resource:
        errors.append(required(f"{path}.resource"))
    elif resource not in _RESOURCES and ".hugepages-" not in resource:
        errors += [not_supported(f"{path}.resource", resource, _RESOURCES)]
    return errors + _divisor(resource.partition(".")[2], str(source.get("divisor") or "0"), f"{path}.divisor")


def _divisor(resource: str, divisor: str, path: str) -> list[FieldError]:
    if divisor == "0" or not resource:
        return []
    called = {"cpu": "cpu", "memory": "memory", "ephemeral-storage": "local ephemeral storage"}.get(
        resource, "hugepages"
    )
    valid = _DIVISORS["cpu" if resource == "cpu" else "memory"][1]
    if divisor in valid:
        return []
    listed = f"{valid[0]} and {valid[1]}" if resource == "cpu" else ", ".join(valid)
    return [invalid_value(path, resource, f"only divisor's values {listed} are supported with the {called} resource")]


def env_from(sources: Sequence[Object] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, source in each(path, sources):
        if prefix := text(source, "prefix"):
            errors += fields.check(f"{at}.prefix", prefix, names.env_var_name)
        given = [key for key in ("configMapRef", "secretRef") if source.get(key) is not None]
        for key in given:
            errors += fields.check_required(f"{at}.{key}.name", text(source[key], "name"), names.dns1123_subdomain)
        # Kubernetes leaves the index out of these two paths.
        if not given:
            errors.append(invalid_value(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(given) > 1:
            errors.append(invalid_value(path, "", "may not have more than one field specified at a time"))
    return errors


# Volumes, as a container sees them


def relative_path(value: str, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if value.startswith("/"):
        errors.append(invalid_value(path, value, "must be a relative path"))
    return errors + no_backsteps(value, path)


def no_backsteps(value: str, path: str) -> list[FieldError]:
    return [invalid_value(path, value, "must not contain '..'")] if ".." in value.split("/") else []


def _mounts(container: Object, context: PodContext, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    devices = {text(d, "name"): text(d, "devicePath") for d in entries(container, "volumeDevices")}
    for at, mount in each(path, container.get("volumeMounts")):
        name, target = text(mount, "name"), text(mount, "mountPath")
        if not name:
            errors.append(required(f"{at}.name"))
        if not target:
            errors.append(required(f"{at}.mountPath"))
        if name not in context.volumes:
            errors.append(not_found_value(f"{at}.name", name))
        if target in seen:
            errors.append(invalid_value(f"{at}.mountPath", target, "must be unique"))
        seen.add(target)
        if name in devices:
            errors.append(invalid_value(f"{at}.name", name, "must not already exist in volumeDevices"))
        if target and target in devices.values():
            errors.append(invalid_value(f"{at}.mountPath", target, "must not already exist as a path in volumeDevices"))
        errors += _sub_paths(mount, path, at)
        errors += _propagation(mount, container, f"{path}.mountPropagation")
        errors += _recursive_read_only(mount, f"{at}.recursiveReadOnly")
        errors += _image_mount(mount, context, at)
    return errors


def _sub_paths(mount: Object, path: str, at: str) -> list[FieldError]:
    """Problems of `subPath` are reported without the mount's index: Kubernetes does so."""
    sub, expression = text(mount, "subPath"), text(mount, "subPathExpr")
    errors: list[FieldError] = []
    if sub:
        errors += relative_path(sub, f"{path}.subPath")
    if expression:
        if sub:
            detail = "subPathExpr and subPath are mutually exclusive"
            errors.append(invalid_value(f"{at}.subPathExpr", expression, detail))
        errors += relative_path(expression, f"{path}.subPathExpr")
    return errors


def _propagation(mount: Object, container: Object, path: str) -> list[FieldError]:
    wanted = mount.get("mountPropagation")
    if wanted is None:
        return []
    errors = fields.one_of(path, wanted, _PROPAGATIONS)
    if wanted == "Bidirectional" and not part(container, "securityContext").get("privileged"):
        detail = "Bidirectional mount propagation is available only to privileged containers"
        errors.append(forbidden_field(path, detail))
    return errors


def _recursive_read_only(mount: Object, path: str) -> list[FieldError]:
    wanted = mount.get("recursiveReadOnly")
    if wanted is None:
        return []
    errors: list[FieldError] = []
    if wanted in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            errors.append(forbidden_field(path, "may only be specified when readOnly is true"))
        if mount.get("mountPropagation") not in (None, "None"):
            detail = "may only be specified when mountPropagation is None or not specified"
            errors.append(forbidden_field(path, detail))
    return errors + fields.one_of(path, wanted, _RECURSIVE_READ_ONLY)


def _image_mount(mount: Object, context: PodContext, path: str) -> list[FieldError]:
    volume = context.volumes.get(text(mount, "name")) or {}
    if volume.get("image") is None or not mount.get("mountPropagation"):
        return []
    detail = "mountPropagation may only be set to None for image volumes"
    return (
        []
        if mount["mountPropagation"] == "None"
        else [invalid_value(f"{path}.mountPropagation", mount["mountPropagation"], detail)]
    )


def _devices(container: Object, context: PodContext, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names_seen: set[str] = set()
    paths_seen: set[str] = set()
    mounts = entries(container, "volumeMounts")
    mounted = {text(m, "name") for m in mounts}
    for at, device in each(path, container.get("volumeDevices")):
        name, target = text(device, "name"), text(device, "devicePath")
        if not name:
            errors.append(required(f"{at}.name"))
        if name in names_seen:
            errors.append(invalid_value(f"{at}.name", name, "must be unique"))
        volume = context.volumes.get(name)
        if volume is not None and not (volume.get("persistentVolumeClaim") or volume.get("ephemeral")):
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid_value(f"{at}.name", name, detail))
        if volume is None:
            errors.append(not_found_value(f"{at}.name", name))
        if not target:
            errors.append(required(f"{at}.devicePath"))
        if target in paths_seen:
            errors.append(invalid_value(f"{at}.devicePath", target, "must be unique"))
        if target and ".." in target.split("/"):
            errors.append(invalid_value(f"{at}.devicePath", target, "can not contain backsteps ('..')"))
        else:
            paths_seen.add(target)
        if name in mounted:
            errors.append(invalid_value(f"{at}.name", name, "must not already exist in volumeMounts"))
        if target in {text(m, "mountPath") for m in mounts}:
            errors.append(invalid_value(f"{at}.devicePath", target, "must not already exist as a path in volumeMounts"))
        if name:
            names_seen.add(name)
    return errors


# The rest


def _resize_policy(container: Object, context: PodContext, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, policy in each(path, container.get("resizePolicy")):
        resource, restart = text(policy, "resourceName"), text(policy, "restartPolicy")
        if resource in seen:
            errors.append(duplicate(at, resource))
        seen.add(resource)
        errors += fields.one_of_required(at, resource, _RESIZABLE)
        errors += fields.one_of_required(at, restart, _RESIZE_POLICIES)
        if context.restart_policy == "Never" and restart not in ("", "NotRequired"):
            detail = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            errors.append(invalid_value(path, restart, detail))
    return errors


def _lifecycle(container: Object, context: PodContext, path: str) -> list[FieldError]:
    lifecycle: Object = part(container, "lifecycle")
    errors: list[FieldError] = []
    for key in ("postStart", "preStop"):
        if lifecycle.get(key) is not None:
            errors += handler(lifecycle[key], f"{path}.lifecycle.{key}", context.grace_period)
    signal = lifecycle.get("stopSignal")
    if signal is not None:
        at = f"{path}.lifecycle.stopSignal"
        errors += fields.one_of(at, signal, sorted(_SIGNALS))
        if not context.os:
            errors.append(forbidden_field(at, "may not be set for containers with empty `spec.os.name`"))
    return errors


Rule = Callable[[Object, PodContext, str], list[FieldError]]
