"""Validation of the containers of a pod (`validateContainers` in pkg/apis/core/validation/validation.go)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from podling.api.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_found_value,
    required,
    too_many,
)
from podling.kinds.core import downward, requirements
from podling.kinds.core.paths import backsteps, relative_path
from podling.kinds.core.podsecurity import container_security
from podling.kinds.core.probes import handler, liveness_like, readiness
from podling.kinds.core.volumes import PULL_POLICIES
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_MESSAGE_POLICIES: Final = ("File", "FallbackToLogsOnError")
_PROPAGATIONS: Final = ("Bidirectional", "HostToContainer", "None")
_RECURSIVE_READ_ONLY: Final = ("Disabled", "Enabled", "IfPossible")
_RESIZABLE: Final = ("cpu", "memory")
_RESIZE_POLICIES: Final = ("NotRequired", "RestartContainer")
_RESTART_POLICIES: Final = ("Always", "Never", "OnFailure")
_MAX_RESTART_RULES: Final = 20
_MAX_EXIT_CODES: Final = 255
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_EPHEMERAL_FORBIDDEN: Final = (
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    *_PROBES,
    "lifecycle",
)


@dataclass(frozen=True, slots=True)
class PodContext:
    """What a container's rules need to know of the pod around it."""

    volumes: Mapping[str, Object] = field(default_factory=dict[str, Any])
    claims: frozenset[str] = frozenset()
    restart_policy: str = "Always"
    grace_period: int | None = None
    host_users: bool = True
    held_restarts: frozenset[str] = frozenset()
    """Plain init containers of the stored pod that are restarted by a resize: a rule that came later allows them."""


def visit(spec: Object, path: str) -> Iterator[tuple[str, Object]]:
    """All containers with their paths, in the order in which Kubernetes walks through them."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from each(f"{path}.{key}", spec.get(key))


def regular(items: Sequence[Object] | None, context: PodContext, path: str) -> list[FieldError]:
    if not items:
        return [required(path)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, container in each(path, items):
        errors += _common(container, context, at)
        errors += _unique_name(container, seen, at)
        errors += _life(container, context, at)
        errors += _restart_policy(container, at)
    return errors + _host_port_conflicts(items, path)


def init(
    items: Sequence[Object] | None, others: Sequence[Object] | None, context: PodContext, path: str
) -> list[FieldError]:
    """Init containers; with `restartPolicy: Always` they are sidecars and may be probed."""
    errors: list[FieldError] = []
    seen = {text(c, "name") for c in others or ()}
    for at, container in each(path, items):
        errors += _common(container, context, at)
        errors += _init_restart_policy(container, at)
        errors += _unique_name(container, seen, at)
        # Kubernetes looks at each container as if it were the first of them.
        errors += _host_port_conflicts([container], path)
        if container.get("restartPolicy") == "Always":
            errors += _life(container, context, at)
        else:
            errors += _plain_init(container, context, at)
    return errors


def _life(container: Object, context: PodContext, path: str) -> list[FieldError]:
    """Hooks and probes."""
    lifecycle: Object = part(container, "lifecycle")
    errors: list[FieldError] = []
    for key in ("postStart", "preStop"):
        if lifecycle.get(key) is not None:
            errors += handler(lifecycle[key], f"{path}.lifecycle.{key}", context.grace_period)
    for key in _PROBES:
        rule = readiness if key == "readinessProbe" else liveness_like
        errors += rule(container.get(key), f"{path}.{key}")
    return errors


def _plain_init(container: Object, context: PodContext, path: str) -> list[FieldError]:
    detail = "may not be set for init containers without restartPolicy=Always"
    keys = ("lifecycle", *_PROBES)
    errors = [forbidden_field(f"{path}.{k}", detail) for k in keys if container.get(k) is not None]
    if text(container, "name") in context.held_restarts:
        return errors
    for at, policy in each(f"{path}.resizePolicy", container.get("resizePolicy")):
        if policy.get("restartPolicy") == "RestartContainer":
            detail = "must not be set to 'RestartContainer' for non-sidecar initContainers"
            errors.append(invalid_value(f"{at}.restartPolicy", "RestartContainer", detail))
    return errors


def restarted_by_resize(spec: Object) -> frozenset[str]:
    """The plain init containers whose resize policy restarts them."""
    return frozenset(
        text(c, "name")
        for c in entries(spec, "initContainers")
        if c.get("restartPolicy") != "Always"
        and any(p.get("restartPolicy") == "RestartContainer" for p in entries(c, "resizePolicy"))
    )


def ephemeral(items: Sequence[Object] | None, spec: Object, context: PodContext, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    others = [text(c, "name") for k in ("containers", "initContainers") for c in entries(spec, k)]
    seen = set(others)
    for at, container in each(path, items):
        errors += _common(container, context, at)
        errors += image_untrimmed(container, at)
        errors += _unique_name(container, seen, at)
        target = text(container, "targetContainerName")
        if target and target not in others:
            errors.append(not_found_value(f"{at}.targetContainerName", target))
        errors += _ephemeral_only(container, at)
    return errors


def _ephemeral_only(container: Object, path: str) -> list[FieldError]:
    detail = "cannot be set for an Ephemeral Container"
    given = [
        key
        for key in _EPHEMERAL_FORBIDDEN
        if (container.get(key) if key == "resources" else container.get(key) is not None)
    ]
    errors = [forbidden_field(f"{path}.{key}", detail) for key in given]
    for at, mount in each(f"{path}.volumeMounts", container.get("volumeMounts")):
        errors += [forbidden_field(f"{at}.{key}", detail) for key in ("subPath", "subPathExpr") if mount.get(key)]
    return errors


def _unique_name(item: Object, seen: set[str], path: str) -> list[FieldError]:
    name = text(item, "name")
    if name in seen:
        return [duplicate(f"{path}.name", name)]
    seen.add(name)
    return []


def _init_restart_policy(container: Object, path: str) -> list[FieldError]:
    if container.get("restartPolicy") is None:
        return _restart_policy_missing(container, path)
    return _restart_policy(container, path)


def _restart_policy_missing(container: Object, path: str) -> list[FieldError]:
    if not container.get("restartPolicyRules"):
        return []
    return [required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")]


def _restart_policy(container: Object, path: str) -> list[FieldError]:
    policy, rules = container.get("restartPolicy"), entries(container, "restartPolicyRules")
    if policy is None:
        errors = _restart_policy_missing(container, path)
    else:
        errors = fields.one_of(f"{path}.restartPolicy", policy, _RESTART_POLICIES)
    if len(rules) > _MAX_RESTART_RULES:
        errors.append(too_many(f"{path}.restartPolicyRules", len(rules), _MAX_RESTART_RULES))
    for at, rule in each(f"{path}.restartPolicyRules", rules):
        errors += _restart_rule(rule, at)
    return errors


def _restart_rule(rule: Object, path: str) -> list[FieldError]:
    errors = fields.one_of(f"{path}.action", text(rule, "action"), ("Restart", "RestartAllContainers"))
    codes: Object | None = rule.get("exitCodes")
    if codes is None:
        return [*errors, required(f"{path}.exitCodes", "must be specified")]
    errors += fields.one_of(f"{path}.exitCodes.operator", text(codes, "operator"), ("In", "NotIn"))
    if (count := len(entries(codes, "values"))) > _MAX_EXIT_CODES:
        errors.append(too_many(f"{path}.exitCodes.values", count, _MAX_EXIT_CODES))
    return errors


def _common(container: Object, context: PodContext, path: str) -> list[FieldError]:
    """The rules of `validateContainerCommon`, in its order."""
    errors = fields.check_required(f"{path}.name", text(container, "name"), names.dns1123_label)
    if not container.get("image"):
        errors.append(required(f"{path}.image"))
    policy = text(container, "terminationMessagePolicy")
    errors += fields.one_of_required(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES)
    errors += _ports(container.get("ports"), f"{path}.ports")
    errors += env(container.get("env"), f"{path}.env")
    errors += env_from(container.get("envFrom"), f"{path}.envFrom")
    errors += _mounts(container, context, f"{path}.volumeMounts")
    errors += _devices(container, context, f"{path}.volumeDevices")
    errors += fields.one_of_required(f"{path}.imagePullPolicy", text(container, "imagePullPolicy"), PULL_POLICIES)
    errors += requirements.requirements(part(container, "resources"), f"{path}.resources", claims=context.claims)
    errors += _resize_policy(container, context, f"{path}.resizePolicy")
    errors += container_security(container.get("securityContext"), f"{path}.securityContext", context.host_users)
    return errors


def image_untrimmed(container: Object, path: str) -> list[FieldError]:
    """A rule for pods: templates have never been held to it."""
    image = text(container, "image")
    if image == image.strip():
        return []
    return [invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace")]


def _ports(ports: Sequence[Object] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, port in each(path, ports):
        if name := text(port, "name"):
            wrong = names.port_name(name)
            errors += fields.says(f"{at}.name", name, wrong)
            if not wrong:
                errors += _unique_name(port, seen, at)
        number, host = port.get("containerPort") or 0, port.get("hostPort") or 0
        errors += fields.port(f"{at}.containerPort", number) if number else [required(f"{at}.containerPort")]
        if host:
            errors += fields.port(f"{at}.hostPort", host)
        errors += fields.one_of_required(f"{at}.protocol", text(port, "protocol"), PROTOCOLS)
    return errors


def host_network_ports(spec: Object, path: str, *, of_pod: bool) -> list[FieldError]:
    """In the host's network a host port must be the container's port. A template may leave it out."""
    errors: list[FieldError] = []
    if not spec.get("hostNetwork"):
        return errors
    detail = "must match `containerPort` when `hostNetwork` is true"
    for container_at, container in each(f"{path}.containers", spec.get("containers")):
        for at, port in each(f"{container_at}.ports", container.get("ports")):
            host = port.get("hostPort") or 0
            if (of_pod or host) and host != (port.get("containerPort") or 0):
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

_SOURCES: Final = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def env(variables: Sequence[Object] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, variable in each(path, variables):
        errors += fields.check_required(f"{at}.name", text(variable, "name"), names.env_var_name)
        errors += _value_from(variable, f"{at}.valueFrom")
    return errors


def _value_from(variable: Object, path: str) -> list[FieldError]:
    source: Object | None = variable.get("valueFrom")
    if source is None:
        return []
    given = [key for key in _SOURCES if source.get(key) is not None]
    errors: list[FieldError] = []
    for key in given:
        errors += _env_source(key, source[key], f"{path}.{key}")
    if not given:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        errors.append(invalid_value(path, "", detail))
    elif variable.get("value"):
        errors.append(invalid_value(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        errors.append(invalid_value(path, "", "may not have more than one field specified at a time"))
    return errors


def _env_source(kind: str, source: Object, path: str) -> list[FieldError]:
    match kind:
        case "fieldRef":
            return downward.field_ref(source, path, downward.ENV_FIELDS)
        case "resourceFieldRef":
            return downward.resource_ref(source, path, in_volume=False)
        case "fileKeyRef":
            return _file_key(source, path)
        case _:
            return _key_ref(source, path)


def _key_ref(source: Object, path: str) -> list[FieldError]:
    errors = fields.check(f"{path}.name", text(source, "name"), names.dns1123_subdomain)
    return errors + fields.check_required(f"{path}.key", text(source, "key"), names.config_map_key)


def _file_key(source: Object, path: str) -> list[FieldError]:
    errors = fields.check_required(f"{path}.key", text(source, "key"), names.env_var_name)
    errors += fields.check_required(f"{path}.volumeName", text(source, "volumeName"), names.dns1123_label)
    target = text(source, "path")
    return errors + (backsteps(target, f"{path}.path") if target else [required(f"{path}.path")])


def file_key_volumes(spec: Object, path: str) -> list[FieldError]:
    """Files that variables come from lie in empty directories of the pod."""
    volumes = {text(v, "name"): v for v in entries(spec, "volumes")}
    errors: list[FieldError] = []
    for container_at, container in visit(spec, path):
        for at, variable in each(f"{container_at}.env", container.get("env")):
            source: Object | None = part(variable, "valueFrom").get("fileKeyRef")
            if source is not None:
                name = text(source, "volumeName")
                errors += _file_key_volume(volumes.get(name), name, f"{at}.valueFrom.fileKeyRef.volumeName")
    return errors


def _file_key_volume(volume: Object | None, name: str, path: str) -> list[FieldError]:
    if volume is None:
        return [not_found_value(path, name)]
    if volume.get("emptyDir") is None:
        return [invalid_value(path, name, "referenced volume must be of type emptyDir")]
    return []


def env_from(sources: Sequence[Object] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, source in each(path, sources):
        if prefix := text(source, "prefix"):
            errors += fields.check(f"{at}.prefix", prefix, names.env_var_name)
        given = [key for key in ("configMapRef", "secretRef") if source.get(key) is not None]
        for key in given:
            errors += fields.check_required(f"{at}.{key}.name", text(source[key], "name"), _source_name)
        # Kubernetes leaves the index out of these two paths.
        if not given:
            errors.append(invalid_value(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(given) > 1:
            errors.append(invalid_value(path, "", "may not have more than one field specified at a time"))
    return errors


def _source_name(value: str) -> list[str]:
    """Kubernetes holds this name to the rule for the beginning of one."""
    return names.subdomain_name(value, True)


# Volumes, as a container sees them


def _mounts(container: Object, context: PodContext, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    devices = {text(d, "name"): text(d, "devicePath") for d in entries(container, "volumeDevices")}
    for at, mount in each(path, container.get("volumeMounts")):
        name, target = text(mount, "name"), text(mount, "mountPath")
        if not name:
            errors.append(required(f"{at}.name"))
        if name not in context.volumes:
            errors.append(not_found_value(f"{at}.name", name))
        if not target:
            errors.append(required(f"{at}.mountPath"))
        if target in seen:
            errors.append(invalid_value(f"{at}.mountPath", target, "must be unique"))
        seen.add(target)
        if name in devices:
            errors.append(invalid_value(f"{at}.name", name, "must not already exist in volumeDevices"))
        if target in devices.values():
            errors.append(invalid_value(f"{at}.mountPath", target, "must not already exist as a path in volumeDevices"))
        errors += _sub_paths(mount, path, at)
        errors += _propagation(mount, container, f"{path}.mountPropagation")
        errors += _recursive_read_only(mount, f"{path}.recursiveReadOnly")
    return errors


def _sub_paths(mount: Object, path: str, at: str) -> list[FieldError]:
    """Problems of `subPath` are reported without the mount's index: Kubernetes does so."""
    sub, expression = text(mount, "subPath"), text(mount, "subPathExpr")
    errors = relative_path(sub, f"{path}.subPath")
    if sub and expression:
        detail = "subPathExpr and subPath are mutually exclusive"
        errors.append(invalid_value(f"{at}.subPathExpr", expression, detail))
    return errors + relative_path(expression, f"{path}.subPathExpr")


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


def _devices(container: Object, context: PodContext, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names_seen: set[str] = set()
    paths_seen: set[str] = set()
    mounts = {text(m, "name"): text(m, "mountPath") for m in entries(container, "volumeMounts")}
    for at, device in each(path, container.get("volumeDevices")):
        name, target = text(device, "name"), text(device, "devicePath")
        if not name:
            errors.append(required(f"{at}.name"))
        if name in names_seen:
            errors.append(invalid_value(f"{at}.name", name, "must be unique"))
        errors += _block_volume(context.volumes.get(name), name, f"{at}.name")
        if not target:
            errors.append(required(f"{at}.devicePath"))
        if target in paths_seen:
            errors.append(invalid_value(f"{at}.devicePath", target, "must be unique"))
        if ".." in target.split("/"):
            errors.append(invalid_value(f"{at}.devicePath", target, "can not contain backsteps ('..')"))
        else:
            paths_seen.add(target)
        if name in mounts:
            errors.append(invalid_value(f"{at}.name", name, "must not already exist in volumeMounts"))
        if target in mounts.values():
            errors.append(invalid_value(f"{at}.devicePath", target, "must not already exist as a path in volumeMounts"))
        if name:
            names_seen.add(name)
    return errors


def _block_volume(volume: Object | None, name: str, path: str) -> list[FieldError]:
    if volume is None:
        return [not_found_value(path, name)]
    if volume.get("persistentVolumeClaim") is not None or volume.get("ephemeral") is not None:
        return []
    detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
    return [invalid_value(path, name, detail)]


# The rest


def _resize_policy(container: Object, context: PodContext, path: str) -> list[FieldError]:
    """Only a policy that is there twice is told with its index: Kubernetes does so."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, policy in each(path, container.get("resizePolicy")):
        resource, restart = text(policy, "resourceName"), text(policy, "restartPolicy")
        if resource in seen:
            errors.append(duplicate(at, resource))
        seen.add(resource)
        errors += fields.one_of_required(path, resource, _RESIZABLE)
        errors += fields.one_of_required(path, restart, _RESIZE_POLICIES)
        if context.restart_policy == "Never" and restart != "NotRequired":
            detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            errors.append(invalid_value(path, restart, detail))
    return errors
