"""Binding, and what creating one does: the pod is given its node (`pods/NAME/binding`)."""

from __future__ import annotations

from podling.api import meta
from podling.api.creators import SUCCESS, Creator
from podling.api.errors import ApiError, FieldError, bad_request, conflict, not_supported, required
from podling.api.registry import Registry
from podling.api.requests import Call
from podling.api.resources import Resource
from podling.store.types import Object


def resource() -> Resource:
    return Resource(
        group="",
        version="v1",
        kind="Binding",
        plural="bindings",
        singular="binding",
        namespaced=True,
        schema="io.k8s.api.core.v1.Binding",
        verbs=frozenset({"create"}),
    )


def creator(registry: Registry) -> Creator:
    """Binds pods of `registry`; the scheduler's only write.

    Serves `pods/NAME/binding`, and the collection `bindings` as well, where the body alone names the pod.
    """
    pods = registry.served.by_name("pods")
    assert pods is not None, "pods are always served"

    async def bind(namespace: str, name: str, binding: Object, call: Call) -> Object:
        name = name or meta.name(binding)
        _check(name, binding)
        node: str = binding["target"]["name"]
        now = registry.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        await registry.modify(
            pods, namespace, name, lambda pod: _bound(pod, node, binding, now), call, subresource="binding"
        )
        return SUCCESS

    return Creator(resource(), bind)


def _check(name: str, binding: Object) -> None:
    """In the order and the words of the real one, whose validation answers 500 here."""
    if meta.name(binding) != name:
        raise bad_request("name in URL does not match name in Binding object")
    target = meta.part(binding, "target")
    errors: list[FieldError] = []
    if target.get("kind") not in (None, "", "Node"):
        errors.append(not_supported("target.kind", target["kind"], ["Node", "<empty>"]))
    if not target.get("name"):
        errors.append(required("target.name"))
    if errors:
        texts = [str(error) for error in errors]
        raise ApiError(500, "", texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")


def _bound(pod: Object, node: str, binding: Object, now: str) -> Object:
    metadata, spec = pod["metadata"], pod["spec"]
    if metadata.get("deletionTimestamp"):
        raise _refused(metadata["name"], f"pod {metadata['name']} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise _refused(metadata["name"], f'pod {metadata["name"]} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise _refused(metadata["name"], f"pod {metadata['name']} has non-empty .spec.schedulingGates")
    wanted = meta.part(binding, "metadata").get("uid")
    if wanted and wanted != metadata["uid"]:
        raise _refused(
            metadata["name"],
            f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {metadata['uid']}",
        )
    annotations = {**meta.annotations(pod), **meta.annotations(binding)}
    scheduled: Object = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    others = [c for c in meta.items(pod, "status", "conditions") if c["type"] != "PodScheduled"]
    status = {k: v for k, v in meta.part(pod, "status").items() if k != "nominatedNodeName"}
    return {
        **pod,
        "metadata": {**metadata, **({"annotations": annotations} if annotations else {})},
        "spec": {**spec, "nodeName": node},
        "status": {**status, "conditions": [*others, scheduled]},
    }


def _refused(name: str, why: str) -> Exception:
    return conflict("pods/binding", "", name, why)
