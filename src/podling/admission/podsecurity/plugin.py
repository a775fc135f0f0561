"""The admission step: pods are refused or warned about, workloads and namespaces only warned about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from podling.admission.podsecurity.levels import Level, Policy, in_words, policy_of, violations
from podling.admission.refusals import refuse
from podling.api import meta
from podling.api.errors import invalid
from podling.api.resources import Write
from podling.store.types import Object

TEMPLATES: Mapping[str, Sequence[str]] = {
    "replicationcontrollers": ("spec", "template"),
    "podtemplates": ("template",),
    "replicasets.apps": ("spec", "template"),
    "deployments.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
"""Where workloads keep the template of their pods."""
SUBRESOURCES = ("", "ephemeralcontainers", "resize")


def pod_security(write: Write) -> None:
    if write.operation not in ("CREATE", "UPDATE"):
        return
    resource = write.resource.group_resource
    if resource == "namespaces" and not write.subresource:
        _check_namespace(write)
    elif resource == "pods" and write.subresource in SUBRESOURCES:
        if write.old is None or _is_significant(write.old, write.new):
            _check_pod(write)
    elif resource in TEMPLATES and not write.subresource:
        _check_workload(write, meta.part(write.new, *TEMPLATES[resource]))


def _policy(write: Write) -> Policy:
    namespace = write.reader.get("namespaces", "", meta.namespace(write.new))
    return policy_of(meta.labels(namespace)) if namespace is not None else Policy()


def _check_pod(write: Write) -> None:
    policy = _policy(write)
    found = violations(policy.enforce, write.new)
    if found:
        raise refuse(write, f'violates PodSecurity "{policy.enforce}": {in_words(found)}')
    _warn(write, policy.warn, write.new)


def _check_workload(write: Write, template: Object) -> None:
    if meta.spec(template):
        _warn(write, _policy(write).warn, template)


def _warn(write: Write, level: Level, pod: Object) -> None:
    found = violations(level, pod)
    if found:
        write.warnings.append(f'would violate PodSecurity "{level}": {in_words(found)}')


def _is_significant(old: Object, new: Object) -> bool:
    """Whether an update can make a pod less safe: of what may be changed, only images and new containers count."""
    if any(_images(old, key) != _images(new, key) for key in ("initContainers", "containers")):
        return True
    before = dict(_images(old, "ephemeralContainers"))
    return any(before.get(name) != image for name, image in _images(new, "ephemeralContainers"))


def _images(pod: Object, key: str) -> list[tuple[str, str]]:
    return [(container["name"], container.get("image", "")) for container in meta.items(pod, "spec", key)]


# Namespaces


def _check_namespace(write: Write) -> None:
    """Labels must say something known; a level that rises tells which pods would not be let in any more."""
    new = policy_of(meta.labels(write.new))
    old = policy_of(meta.labels(write.old)) if write.old is not None else None
    if new.problems and (old is None or old.problems != new.problems):
        raise invalid("Namespace", "", meta.name(write.new), new.problems)
    if old is not None and _rises(old.enforce, new.enforce):
        write.warnings += existing_violations(
            meta.name(write.new), new.enforce, write.reader.list("pods", meta.name(write.new))
        )


def _rises(old: Level, new: Level) -> bool:
    if new == old or new.name == "privileged":
        return False
    return new.minor != old.minor or new.rank > old.rank


def existing_violations(namespace: str, level: Level, pods: Sequence[Object]) -> list[str]:
    """Warnings about pods that are there already, those with the same faults together."""
    names: dict[str, list[str]] = {}
    for pod in sorted(pods, key=meta.name):
        reasons = ", ".join(finding.reason for finding in violations(level, pod))
        if reasons:
            names.setdefault(reasons, []).append(meta.name(pod))
    if not names:
        return []
    head = f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{level}"'
    return [head, *sorted(f"{_and_others(pods)}: {reasons}" for reasons, pods in names.items())]


def _and_others(names: Sequence[str]) -> str:
    others = len(names) - 1
    if not others:
        return names[0]
    return f"{names[0]} (and {others} other pod{'' if others == 1 else 's'})"
