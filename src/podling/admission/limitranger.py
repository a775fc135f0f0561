"""LimitRanger: containers get the usual requests and limits of their namespace; too little or too much is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from podling.admission.refusals import refuse
from podling.api import meta
from podling.api.podresources import Amounts, amounts, pod_limits, pod_requests
from podling.api.quantity import Format, Quantity, of
from podling.api.resources import Write
from podling.store.types import Object

RESOURCE = "limitranges"
ANNOTATION = "kubernetes.io/limit-ranger"
KINDS = (("containers", "container"), ("initContainers", "init container"))

Texts = Mapping[str, str]
"""A ResourceList as written."""


def default_resources(write: Write) -> None:
    """The mutating half: what a new pod's containers do not say, the namespace's ranges say."""
    if write.operation != "CREATE" or write.subresource or write.resource.group_resource != "pods":
        return
    for limit_range in _ranges(write):
        said = _fill(write.new, *_container_defaults(limit_range))
        if said:
            annotations = meta.annotations(write.new)
            text = f"LimitRanger plugin set: {'; '.join(said)}"
            write.new["metadata"]["annotations"] = {**annotations, ANNOTATION: text}


def limit_resources(write: Write) -> None:
    """The validating half. Of several ranges the first that is not kept is told."""
    if write.operation not in ("CREATE", "UPDATE"):
        return
    is_pod = write.resource.group_resource == "pods" and _pod_resources_may_change(write)
    is_claim = write.resource.group_resource == "persistentvolumeclaims" and not write.subresource
    if not is_pod and not is_claim:
        return
    check = _pod_problems if is_pod else _claim_problems
    for limit_range in _ranges(write):
        problems = list(dict.fromkeys(check(limit_range, write.new, write.old)))
        if problems:
            raise refuse(write, problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def _pod_resources_may_change(write: Write) -> bool:
    return write.subresource == ("" if write.operation == "CREATE" else "resize")


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


def _pod_problems(limit_range: Object, pod: Object, old: Object | None) -> Iterator[str]:
    for item in meta.items(limit_range, "spec", "limits"):
        if item.get("type") == "Container":
            for key, _ in KINDS:
                before = {c["name"]: c for c in meta.items(old, "spec", key)}
                for container in meta.items(pod, "spec", key):
                    yield from _bounds(item, _of_container(container), _of_container(before.get(container["name"])))
        elif item.get("type") == "Pod":
            yield from _bounds(item, (pod_requests(pod), pod_limits(pod)), _of_pod(old))


def _of_container(container: Object | None) -> tuple[Amounts, Amounts] | None:
    if container is None:
        return None
    return (
        amounts(meta.part(container, "resources", "requests")),
        amounts(meta.part(container, "resources", "limits")),
    )


def _of_pod(pod: Object | None) -> tuple[Amounts, Amounts] | None:
    return (pod_requests(pod), pod_limits(pod)) if pod is not None else None


def _bounds(
    item: Object, asked: tuple[Amounts, Amounts] | None, before: tuple[Amounts, Amounts] | None
) -> Iterator[str]:
    """Problems with what changed: what was there before is good as it is."""
    requests, limits = asked or ({}, {})
    old_requests, old_limits = before or ({}, {})

    def concerns(names: Iterable[str]) -> Iterator[str]:
        for name in sorted(names):
            same = requests.get(name) == old_requests.get(name) and limits.get(name) == old_limits.get(name)
            if before is None or not same:
                yield name

    for name in concerns(meta.part(item, "min")):
        yield from _least(item["type"], name, item["min"][name], requests.get(name), limits.get(name))
    for name in concerns(meta.part(item, "max")):
        yield from _most(item["type"], name, item["max"][name], requests.get(name), limits.get(name))
    for name in concerns(meta.part(item, "maxLimitRequestRatio")):
        yield from _ratio(item["type"], name, item["maxLimitRequestRatio"][name], requests.get(name), limits.get(name))


def _least(kind: str, name: str, bound: str, request: int | None, limit: int | None) -> Sequence[str]:
    says = f"minimum {name} usage per {kind} is {bound}"
    if request is None:
        return [f"{says}.  No request is specified"]
    if request < of(bound).nanos:
        return [f"{says}, but request is {_text(request, bound)}"]
    if limit is not None and limit < of(bound).nanos:
        return [f"{says}, but limit is {_text(limit, bound)}"]
    return ()


def _most(kind: str, name: str, bound: str, request: int | None, limit: int | None) -> Sequence[str]:
    says = f"maximum {name} usage per {kind} is {bound}"
    if limit is None:
        return [f"{says}.  No limit is specified"]
    if limit > of(bound).nanos:
        return [f"{says}, but limit is {_text(limit, bound)}"]
    if request is not None and request > of(bound).nanos:
        return [f"{says}, but request is {_text(request, bound)}"]
    return ()


def _ratio(kind: str, name: str, bound: str, request: int | None, limit: int | None) -> Sequence[str]:
    says = f"{name} max limit to request ratio per {kind} is {bound}"
    if not request:
        return [f"{says}, but no request is specified or request is 0"]
    if not limit:
        return [f"{says}, but no limit is specified or limit is 0"]
    ratio = Fraction(limit, request)
    return [f"{says}, but provided ratio is {float(ratio):f}"] if ratio > Fraction(of(bound).nanos, 10**9) else ()


def _text(amount: int, bound: str) -> str:
    """In the bound's notation, or with a smaller unit where that cannot say it."""
    notation = of(bound).format
    return str(Quantity(amount, notation if amount % 10**9 == 0 else Format.DECIMAL_SI))


def _claim_problems(limit_range: Object, claim: Object, old: Object | None) -> Iterator[str]:
    requests = amounts(meta.part(claim, "spec", "resources", "requests"))
    before = amounts(meta.part(old, "spec", "resources", "requests"))
    for item in _items(limit_range, "PersistentVolumeClaim"):
        for name in sorted(meta.part(item, "min")):
            if name not in before or before[name] != requests.get(name):
                yield from _least(item["type"], name, item["min"][name], requests.get(name), None)
        for name in sorted(meta.part(item, "max")):
            if name not in before or before[name] != requests.get(name):
                yield from _most_requested(item["max"][name], name, requests.get(name))


def _most_requested(bound: str, name: str, request: int | None) -> Sequence[str]:
    says = f"maximum {name} usage per PersistentVolumeClaim is {bound}"
    if request is None:
        return [f"{says}.  No request is specified"]
    return [f"{says}, but request is {_text(request, bound)}"] if request > of(bound).nanos else ()
