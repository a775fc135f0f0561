"""LimitRanger: containers get the usual requests and limits of their namespace; too little or too much is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from podling.admission.refusals import refuse
from podling.api import meta
from podling.api.podresources import amounts, notation, of_containers
from podling.api.quantity import Quantity, canonical, of
from podling.api.resources import Write
from podling.store.types import Object

RESOURCE = "limitranges"
ANNOTATION = "kubernetes.io/limit-ranger"
OF_PODS: Final = ("cpu", "memory")
"""Which of a pod's own resources stand in for those of its containers here."""
KINDS = (("containers", "container"), ("initContainers", "init container"))

Texts = Mapping[str, str]
"""A ResourceList as written."""
Quantities = Mapping[str, Quantity]


def default_resources(write: Write) -> None:
    """The mutating half: what a pod's containers do not say, the namespace's ranges say."""
    if not _is_about_pod(write):
        return
    for limit_range in _ranges(write):
        said = _fill(write.new, *_container_defaults(limit_range))
        if said:
            annotations = meta.annotations(write.new)
            text = f"LimitRanger plugin set: {'; '.join(said)}"
            write.new["metadata"]["annotations"] = {**annotations, ANNOTATION: text}


def limit_resources(write: Write) -> None:
    """The validating half. Of several ranges the first that is not kept is told."""
    if _is_about_pod(write):
        check = _pod_problems
    elif write.resource.group_resource == "persistentvolumeclaims" and not write.subresource and _counts(write):
        check = _claim_problems
    else:
        return
    for limit_range in _ranges(write):
        problems = list(dict.fromkeys(check(limit_range, write.new)))
        if problems:
            raise refuse(write, problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def _is_about_pod(write: Write) -> bool:
    """What containers ask for is said when they come, and by a resize."""
    if write.resource.group_resource != "pods" or not _counts(write):
        return False
    return write.subresource == ("" if write.operation == "CREATE" else "resize")


def _counts(write: Write) -> bool:
    return write.operation in ("CREATE", "UPDATE") and not meta.deleting(write.old or {})


def _ranges(write: Write) -> list[Object]:
    return sorted(write.reader.list(RESOURCE, meta.namespace(write.new)), key=meta.name)


def _items(limit_range: Object, kind: str) -> Iterator[Object]:
    return (item for item in meta.items(limit_range, "spec", "limits") if item.get("type") == kind)


# Defaults


def _container_defaults(limit_range: Object) -> tuple[Texts, Texts]:
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    for item in _items(limit_range, "Container"):
        requests |= meta.part(item, "defaultRequest")
        limits |= meta.part(item, "default")
    return requests, limits


def _fill(pod: Object, requests: Texts, limits: Texts) -> list[str]:
    """Fills in place; says what was set."""
    said: list[str] = []
    for key, word in KINDS:
        for container in meta.items(pod, "spec", key):
            for field, defaults in (("requests", requests), ("limits", limits)):
                present = meta.part(container, "resources", field)
                missing = {name: defaults[name] for name in sorted(defaults) if name not in present}
                if missing:
                    container["resources"] = {**meta.part(container, "resources"), field: {**present, **missing}}
                    said.append(f"{', '.join(missing)} {field.removesuffix('s')} for {word} {container['name']}")
    return said


# Bounds


def _pod_problems(limit_range: Object, pod: Object) -> Iterator[str]:
    for item in meta.items(limit_range, "spec", "limits"):
        if item.get("type") == "Container":
            for key, _ in KINDS:
                for container in meta.items(pod, "spec", key):
                    own = meta.part(container, "resources")
                    yield from _bounds(item, _quantities(own, "requests"), _quantities(own, "limits"))
        elif item.get("type") == "Pod":
            yield from _bounds(item, _of_pod(pod, "requests"), _of_pod(pod, "limits"))


def _quantities(resources: Object, kind: str) -> Quantities:
    return {name: of(text) for name, text in meta.part(resources, kind).items()}


def _of_pod(pod: Object, kind: str) -> Quantities:
    """Of its containers, or its own; what the pod costs beyond them does not count here."""
    total = of_containers(meta.spec(pod), kind)
    own = {name: text for name, text in meta.part(pod, "spec", "resources", kind).items() if name in OF_PODS}
    total |= amounts(own)
    return {name: Quantity(amount, notation(pod, kind, name)) for name, amount in total.items()}


def _bounds(item: Object, requests: Quantities, limits: Quantities) -> Iterator[str]:
    kind: str = item["type"]
    for name, bound in sorted(meta.part(item, "min").items()):
        yield from _least(kind, name, bound, requests.get(name), limits.get(name))
    for name, bound in sorted(meta.part(item, "max").items()):
        yield from _most(kind, name, bound, requests.get(name), limits.get(name))
    for name, bound in sorted(meta.part(item, "maxLimitRequestRatio").items()):
        yield from _ratio(kind, name, bound, requests.get(name), limits.get(name))


def _least(kind: str, name: str, bound: str, request: Quantity | None, limit: Quantity | None) -> Iterator[str]:
    says = f"minimum {name} usage per {kind} is {canonical(bound)}"
    least = of(bound).milli
    if request is None:
        yield f"{says}.  No request is specified"
    elif request.milli < least:
        yield f"{says}, but request is {request}"
    elif limit is not None and limit.milli < least:
        yield f"{says}, but limit is {limit}"


def _most(kind: str, name: str, bound: str, request: Quantity | None, limit: Quantity | None) -> Iterator[str]:
    says = f"maximum {name} usage per {kind} is {canonical(bound)}"
    most = of(bound).milli
    if limit is None:
        yield f"{says}.  No limit is specified"
    elif limit.milli > most:
        yield f"{says}, but limit is {limit}"
    elif request is not None and request.milli > most:
        yield f"{says}, but request is {request}"


def _ratio(kind: str, name: str, bound: str, request: Quantity | None, limit: Quantity | None) -> Iterator[str]:
    says = f"{name} max limit to request ratio per {kind} is {canonical(bound)}"
    if request is None or not request.milli:
        yield f"{says}, but no request is specified or request is 0"
    elif limit is None or not limit.milli:
        yield f"{says}, but no limit is specified or limit is 0"
    elif limit.milli * 1000 > of(bound).milli * request.milli:
        yield f"{says}, but provided ratio is {limit.milli / request.milli:f}"


def _claim_problems(limit_range: Object, claim: Object) -> Iterator[str]:
    requests = _quantities(meta.part(claim, "spec", "resources"), "requests")
    for item in _items(limit_range, "PersistentVolumeClaim"):
        for name, bound in sorted(meta.part(item, "min").items()):
            yield from _least(item["type"], name, bound, requests.get(name), None)
        for name, bound in sorted(meta.part(item, "max").items()):
            yield from _most_requested(item["type"], name, bound, requests.get(name))


def _most_requested(kind: str, name: str, bound: str, request: Quantity | None) -> Iterator[str]:
    says = f"maximum {name} usage per {kind} is {canonical(bound)}"
    if request is None:
        yield f"{says}.  No request is specified"
    elif request.milli > of(bound).milli:
        yield f"{says}, but request is {request}"
