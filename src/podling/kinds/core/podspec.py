"""Validation of a `PodSpec`, in a Pod or in a workload's template, and of what a running pod may change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required, too_long
from podling.kinds.core import containers, podsecurity, requirements, scheduling, volumes
from podling.kinds.core.containers import PodContext
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

RESTART_POLICIES: Final = ("Always", "OnFailure", "Never")
_DNS_POLICIES: Final = ("Default", "ClusterFirst", "ClusterFirstWithHostNet", "None")
_PREEMPTION: Final = ("PreemptLowerPriority", "Never")
_LONGEST_HOSTNAME: Final = 64
_MAX_INT32: Final = 2**31 - 1
SYSTEM_PRIORITY_CLASSES: Final = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def pod_spec(spec: Object, path: str = "spec") -> list[FieldError]:
    found, errors = volumes.volumes(spec.get("volumes"), f"{path}.volumes")
    claims, wrong = _resource_claims(spec.get("resourceClaims"), f"{path}.resourceClaims")
    errors += wrong
    context = PodContext(
        volumes=found,
        claims=claims,
        restart_policy=text(spec, "restartPolicy"),
        grace_period=spec.get("terminationGracePeriodSeconds") or 0,
        host_users=spec.get("hostUsers") is not False,
        os=text(part(spec, "os"), "name"),
    )
    regular: Sequence[Object] = entries(spec, "containers")
    errors += containers.regular(regular, context, f"{path}.containers")
    errors += containers.init(spec.get("initContainers"), regular, context, f"{path}.initContainers")
    errors += containers.ephemeral(spec.get("ephemeralContainers"), spec, context, f"{path}.ephemeralContainers")
    errors += requirements.requirements(
        part(spec, "resources"), f"{path}.resources", claims, requirements.pod_resource_name
    )
    errors += containers.host_network_ports(spec, path)
    for rule in (_policies, _security, _scheduling, _identity, _classes):
        errors += rule(spec, path)
    return errors


def _policies(spec: Object, path: str) -> list[FieldError]:
    errors = fields.one_of_required(f"{path}.restartPolicy", text(spec, "restartPolicy"), RESTART_POLICIES)
    policy = text(spec, "dnsPolicy")
    errors += fields.one_of_required(f"{path}.dnsPolicy", policy, _DNS_POLICIES)
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        errors.append(required(f"{path}.terminationGracePeriodSeconds"))
    return errors


def _security(spec: Object, path: str) -> list[FieldError]:
    errors = fields.labels(f"{path}.nodeSelector", spec.get("nodeSelector"))
    errors += podsecurity.pod_security(spec, f"{path}.securityContext")
    return errors


def _scheduling(spec: Object, path: str) -> list[FieldError]:
    errors = scheduling.affinity(spec.get("affinity"), f"{path}.affinity")
    errors += scheduling.dns_config(spec, f"{path}.dnsConfig")
    errors += scheduling.readiness_gates(spec.get("readinessGates"), f"{path}.readinessGates")
    errors += scheduling.gates(spec.get("schedulingGates"), f"{path}.schedulingGates")
    errors += scheduling.topology_spread(spec.get("topologySpreadConstraints"), f"{path}.topologySpreadConstraints")
    return errors + podsecurity.host_process(spec, path) + podsecurity.host_users(spec, path)


def _identity(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if name := text(spec, "serviceAccountName"):
        errors += fields.check(f"{path}.serviceAccountName", name, names.dns1123_subdomain)
    if name := text(spec, "nodeName"):
        errors += fields.check(f"{path}.nodeName", name, names.dns1123_subdomain)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT32:
        detail = f"must be between 1 and {_MAX_INT32}, inclusive"
        errors.append(invalid_value(f"{path}.activeDeadlineSeconds", deadline, detail))
    for key in ("hostname", "subdomain"):
        if name := text(spec, key):
            errors += fields.check(f"{path}.{key}", name, names.dns1123_label)
    if (name := spec.get("hostnameOverride")) is not None:
        errors += fields.check(f"{path}.hostnameOverride", name, names.dns1123_subdomain)
        if len(name) > _LONGEST_HOSTNAME:
            errors.append(too_long(f"{path}.hostnameOverride", _LONGEST_HOSTNAME))
    errors += scheduling.tolerations(spec.get("tolerations"), f"{path}.tolerations")
    return errors + scheduling.host_aliases(spec.get("hostAliases"), f"{path}.hostAliases")


def _classes(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if name := text(spec, "priorityClassName"):
        errors += fields.check(f"{path}.priorityClassName", name, names.dns1123_subdomain)
    if (name := spec.get("runtimeClassName")) is not None:
        errors += fields.check(f"{path}.runtimeClassName", name, names.dns1123_subdomain)
    if (policy := spec.get("preemptionPolicy")) is not None:
        errors += fields.one_of_required(f"{path}.preemptionPolicy", policy, _PREEMPTION)
    for name, amount in part(spec, "overhead").items():
        at = f"{path}.overhead[{name}]"
        errors += requirements.resource_name(name, at) + requirements.amount_value(name, amount, at)
    os: Object | None = spec.get("os")
    if os is not None:
        errors += fields.one_of_required(f"{path}.os.name", text(os, "name"), ("linux", "windows"))
        errors += _other_system(spec, text(os, "name"), path)
    return errors


_LINUX_ONLY_SPEC: Final = ("hostUsers", "hostPID", "hostIPC", "shareProcessNamespace")
_LINUX_ONLY_POD: Final = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
)
_LINUX_ONLY_CONTAINER: Final = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)


def _other_system(spec: Object, os: str, path: str) -> list[FieldError]:
    """Fields of one operating system may not be set for pods of the other."""
    if os == "linux":
        return _windows_fields(spec, path)
    return _linux_fields(spec, path) if os == "windows" else []


def _windows_fields(spec: Object, path: str) -> list[FieldError]:
    detail = "windows options cannot be set for a linux pod"
    errors: list[FieldError] = []
    if part(spec, "securityContext").get("windowsOptions") is not None:
        errors.append(forbidden_field(f"{path}.securityContext.windowsOptions", detail))
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for at, container in each(f"{path}.{key}", spec.get(key)):
            if part(container, "securityContext").get("windowsOptions") is not None:
                errors.append(forbidden_field(f"{at}.securityContext.windowsOptions", detail))
    return errors


def _linux_fields(spec: Object, path: str) -> list[FieldError]:
    detail = "cannot be set for a windows pod"
    errors = [forbidden_field(f"{path}.{k}", detail) for k in _LINUX_ONLY_SPEC if spec.get(k)]
    context = part(spec, "securityContext")
    errors += [
        forbidden_field(f"{path}.securityContext.{k}", detail) for k in _LINUX_ONLY_POD if context.get(k) is not None
    ]
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for at, container in each(f"{path}.{key}", spec.get(key)):
            held = part(container, "securityContext")
            errors += [
                forbidden_field(f"{at}.securityContext.{k}", detail)
                for k in _LINUX_ONLY_CONTAINER
                if held.get(k) is not None
            ]
    return errors


def _resource_claims(items: Sequence[Object] | None, path: str) -> tuple[frozenset[str], list[FieldError]]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, claim in each(path, items):
        name = text(claim, "name")
        if not name:
            errors.append(required(f"{at}.name"))
        elif name in seen:
            errors.append(duplicate(f"{at}.name", name))
        else:
            errors += fields.check(f"{at}.name", name, names.dns1123_label)
            seen.add(name)
        given = [key for key in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(key) is not None]
        if len(given) != 1:
            detail = (
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
                if given
                else "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            )
            errors.append(invalid_value(at, claim, detail))
        for key in given:
            errors += fields.check(f"{at}.{key}", claim[key], names.dns1123_subdomain)
    return frozenset(seen), errors


def template(template_: Object, path: str) -> list[FieldError]:
    """A `PodTemplateSpec`."""
    meta = part(template_, "metadata")
    errors = fields.labels(f"{path}.labels", meta.get("labels"))
    errors += fields.annotation_map(f"{path}.annotations", meta.get("annotations"))
    spec = part(template_, "spec")
    errors += pod_spec(spec, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        errors.append(forbidden_field(f"{path}.spec.ephemeralContainers", detail))
    return errors


def always_restarting(spec: Object, path: str, kind: str) -> list[FieldError]:
    """What templates of workloads that run for ever are held to."""
    errors: list[FieldError] = []
    policy = text(spec, "restartPolicy")
    if policy != "Always":
        errors.append(not_supported(f"{path}.restartPolicy", policy, ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        errors.append(
            forbidden_field(f"{path}.activeDeadlineSeconds", f"activeDeadlineSeconds in {kind} is not Supported")
        )
    return errors
