"""Validation of a `PodSpec`, in a Pod or in a workload's template, and of what a running pod may change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required, too_long
from podling.kinds.core import containers, podannotations, podsecurity, requirements, scheduling, volumes
from podling.kinds.core.containers import PodContext
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

RESTART_POLICIES: Final = ("Always", "OnFailure", "Never")
_DNS_POLICIES: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION: Final = ("PreemptLowerPriority", "Never")
_LONGEST_HOSTNAME: Final = 64
_MAX_INT32: Final = 2**31 - 1
SYSTEM_PRIORITY_CLASSES: Final = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def pod_spec(
    spec: Object, path: str = "spec", pod: Object | None = None, before: Object | None = None
) -> list[FieldError]:
    """The rules of `ValidatePodSpec`, in its order.

    `pod` is the metadata of the pod whose spec it is; templates have none, and are held to a little less. `before` is
    the spec as it is stored: a few things that it has are let be.
    """
    grace = spec.get("terminationGracePeriodSeconds")
    errors = [required(f"{path}.terminationGracePeriodSeconds")] if grace is None else []
    found, wrong = volumes.volumes(spec.get("volumes"), f"{path}.volumes", pod)
    claims = frozenset(filter(None, (text(c, "name") for c in entries(spec, "resourceClaims"))))
    errors += wrong + _resource_claims(spec.get("resourceClaims"), f"{path}.resourceClaims", pod)
    context = PodContext(
        volumes=found,
        claims=claims,
        restart_policy=text(spec, "restartPolicy"),
        grace_period=grace,
        host_users=spec.get("hostUsers") is not False,
        held_restarts=containers.restarted_by_resize(before or {}),
    )
    regular: Sequence[Object] = entries(spec, "containers")
    errors += containers.regular(regular, context, f"{path}.containers")
    errors += containers.init(spec.get("initContainers"), regular, context, f"{path}.initContainers")
    errors += containers.ephemeral(spec.get("ephemeralContainers"), spec, context, f"{path}.ephemeralContainers")
    errors += requirements.of_pod(spec, claims, path)
    errors += containers.host_network_ports(spec, path, of_pod=pod is not None)
    for rule in (_policies, _scheduling, _host_name, _identity, _classes, containers.file_key_volumes):
        errors += rule(spec, path)
    return errors


def _policies(spec: Object, path: str) -> list[FieldError]:
    errors = fields.one_of_required(f"{path}.restartPolicy", text(spec, "restartPolicy"), RESTART_POLICIES)
    errors += fields.one_of_required(f"{path}.dnsPolicy", text(spec, "dnsPolicy"), _DNS_POLICIES)
    errors += fields.labels(f"{path}.nodeSelector", spec.get("nodeSelector"))
    return errors + podsecurity.pod_security(spec, f"{path}.securityContext")


def _scheduling(spec: Object, path: str) -> list[FieldError]:
    errors = scheduling.affinity(spec.get("affinity"), f"{path}.affinity")
    errors += scheduling.dns_config(spec, f"{path}.dnsConfig")
    errors += scheduling.readiness_gates(spec.get("readinessGates"), f"{path}.readinessGates")
    errors += scheduling.gates(spec.get("schedulingGates"), f"{path}.schedulingGates")
    errors += scheduling.topology_spread(spec.get("topologySpreadConstraints"), f"{path}.topologySpreadConstraints")
    return errors + podsecurity.host_process(spec, path) + podsecurity.host_users(spec, path)


def _host_name(spec: Object, path: str) -> list[FieldError]:
    name: str | None = spec.get("hostnameOverride")
    if name is None:
        return []
    at = f"{path}.hostnameOverride"
    errors = [
        forbidden_field(at, f"may not be specified when {key} is true")
        for key in ("setHostnameAsFQDN", "hostNetwork")
        if spec.get(key)
    ]
    if len(name) > _LONGEST_HOSTNAME:
        errors.append(too_long(at, _LONGEST_HOSTNAME))
    return errors + fields.check(at, name, names.dns1123_subdomain)


def _identity(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("serviceAccountName", "nodeName"):
        if name := text(spec, key):
            errors += fields.check(f"{path}.{key}", name, names.dns1123_subdomain)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT32:
        detail = f"must be between 1 and {_MAX_INT32}, inclusive"
        errors.append(invalid_value(f"{path}.activeDeadlineSeconds", deadline, detail))
    for key in ("hostname", "subdomain"):
        if name := text(spec, key):
            errors += fields.check(f"{path}.{key}", name, names.dns1123_label)
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
    errors += requirements.requirements({"limits": spec.get("overhead")}, f"{path}.overhead")
    os: Object | None = spec.get("os")
    return errors if os is None else errors + _system(spec, text(os, "name"), path)


def _system(spec: Object, os: str, path: str) -> list[FieldError]:
    """Fields of one operating system may not be set for pods of the other."""
    match os:
        case "linux":
            return _windows_fields(spec, path)
        case "windows":
            return _linux_fields(spec, path)
        case "":
            return [required(f"{path}.os.name")]
        case _:
            return [not_supported(f"{path}.os", os, ("linux", "windows"))]


_LINUX_ONLY: Final = (
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "shareProcessNamespace",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
    "securityContext.seLinuxChangePolicy",
)
_SET_WHEN_TRUE: Final = ("hostPID", "hostIPC", "securityContext.sysctls")
"""Fields whose absence and emptiness are the same to Kubernetes."""
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


def _windows_fields(spec: Object, path: str) -> list[FieldError]:
    detail = "windows options cannot be set for a linux pod"
    holders = [(path, spec), *containers.visit(spec, path)]
    return [
        forbidden_field(f"{at}.securityContext.windowsOptions", detail)
        for at, holder in holders
        if part(holder, "securityContext").get("windowsOptions") is not None
    ]


def _linux_fields(spec: Object, path: str) -> list[FieldError]:
    detail = "cannot be set for a windows pod"
    errors = [forbidden_field(f"{path}.{field}", detail) for field in _LINUX_ONLY if _is_set(spec, field)]
    for at, container in containers.visit(spec, path):
        held = part(container, "securityContext")
        errors += [
            forbidden_field(f"{at}.securityContext.{key}", detail)
            for key in _LINUX_ONLY_CONTAINER
            if held.get(key) is not None
        ]
    return errors


def _is_set(spec: Object, field: str) -> bool:
    *outer, key = field.split(".")
    value = part(spec, *outer).get(key)
    return bool(value) if field in _SET_WHEN_TRUE else value is not None


def _resource_claims(items: Sequence[Object] | None, path: str, pod: Object | None) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    static = podannotations.MIRROR in part(pod or {}, "annotations")
    for at, claim in each(path, items):
        if static:
            errors.append(forbidden_field("", "static pods do not support resource claims"))
            continue
        errors += _resource_claim(claim, seen, at)
    return errors


_CLAIM_SOURCES: Final = ("resourceClaimName", "resourceClaimTemplateName")


def _resource_claim(claim: Object, seen: set[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    name = text(claim, "name")
    if not name:
        errors.append(required(f"{path}.name"))
    elif name in seen:
        errors.append(duplicate(f"{path}.name", name))
    else:
        errors += fields.check(f"{path}.name", name, names.dns1123_label)
        seen.add(name)
    given = [key for key in _CLAIM_SOURCES if claim.get(key) is not None]
    if len(given) != 1:
        detail = (
            "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            if given
            else "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
        )
        shown = {"Name": name, **{key[0].upper() + key[1:]: claim.get(key) for key in _CLAIM_SOURCES}}
        errors.append(invalid_value(path, shown, detail))
    for key in given:
        errors += fields.check(f"{path}.{key}", claim[key], names.dns1123_subdomain)
    return errors


def pod(obj: Object, before: Object | None = None) -> list[FieldError]:
    """What every pod is held to, a new one and a changed one; its `metadata` is checked before."""
    meta, spec = part(obj, "metadata"), part(obj, "spec")
    errors = podannotations.rules(part(meta, "annotations"), spec, "metadata.annotations")
    errors += pod_spec(spec, "spec", meta, before)
    if not text(spec, "serviceAccountName"):
        errors += _tokens_without_account(spec)
    for key in ("containers", "initContainers"):
        for at, container in each(f"spec.{key}", spec.get(key)):
            errors += containers.image_untrimmed(container, at)
    return errors


def _tokens_without_account(spec: Object) -> list[FieldError]:
    detail = "must not be specified when serviceAccountName is not set"
    return [
        forbidden_field(f"{at}.serviceAccountToken", detail)
        for volume_at, volume in each("spec.volumes", spec.get("volumes"))
        for at, source in each(f"{volume_at}.projected.sources", part(volume, "projected").get("sources"))
        if source.get("serviceAccountToken") is not None
    ]


def template(template_: Object, path: str) -> list[FieldError]:
    """A `PodTemplateSpec`."""
    meta, spec = part(template_, "metadata"), part(template_, "spec")
    annotations: Object = part(meta, "annotations")
    errors = fields.labels(f"{path}.labels", meta.get("labels"))
    errors += fields.annotation_map(f"{path}.annotations", annotations)
    errors += podannotations.rules(annotations, spec, f"{path}.annotations")
    errors += pod_spec(spec, f"{path}.spec")
    errors += podannotations.profiles_match(annotations, spec, f"{path}.spec")
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
