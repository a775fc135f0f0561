"""New pods request what their autoscaler recommends: the admission controller of the Vertical Pod Autoscaler."""

from __future__ import annotations

from podling.api import meta
from podling.api.client import Client
from podling.api.resources import Write
from podling.controllers import targets
from podling.controllers.selecting import selector_of
from podling.controllers.vpa.definition import RESOURCE
from podling.controllers.vpa.recommendation import resources_for
from podling.controllers.vpa.updater import mode_of
from podling.store.types import Object


class VpaAdmission:
    """A mutating admission plugin. `client` only reads."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, write: Write) -> None:
        if write.resource.group_resource != "pods" or write.subresource or write.operation != "CREATE":
            return
        pod = write.new
        vpa = self._autoscaler_of(pod)
        if vpa is not None:
            write.new = recommended_pod(pod, vpa)

    def _autoscaler_of(self, pod: Object) -> Object | None:
        """The first by name whose target's selector picks the pod."""
        if not any(r.group_resource == RESOURCE for r in self._client.resources()):
            return None
        namespace = meta.namespace(pod)
        for vpa in sorted(self._client.list(RESOURCE, namespace), key=meta.name):
            target = targets.find_object(self._client, namespace, meta.spec(vpa)["targetRef"]).object
            chosen = selector_of(target) if target is not None else None
            if mode_of(vpa) != "Off" and chosen and meta.matches_selector(chosen, meta.labels(pod)):
                return vpa
        return None


def recommended_pod(pod: Object, vpa: Object) -> Object:
    """The pod with the recommended requests, and annotations that say so. Gives the pod itself without any."""
    found = meta.items(vpa, "status", "recommendation", "containerRecommendations")
    by_name = {recommendation["containerName"]: recommendation["target"] for recommendation in found}
    told: list[str] = []
    containers: list[Object] = []
    for index, container in enumerate(meta.items(pod, "spec", "containers")):
        target = by_name.get(container["name"])
        if target:
            container = {**container, "resources": resources_for(vpa, container, target)}
            told.append(f"container {index}: {', '.join(f'{resource} request' for resource in sorted(target))}")
        containers.append(container)
    if not told:
        return pod
    annotations = {
        **meta.annotations(pod),
        "vpaObservedContainers": ", ".join(c["name"] for c in containers),
        "vpaUpdates": f"Pod resources updated by {meta.name(vpa)}: {'; '.join(told)}",
    }
    metadata = {**pod["metadata"], "annotations": annotations}
    return {**pod, "metadata": metadata, "spec": {**pod["spec"], "containers": containers}}
