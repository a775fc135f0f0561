"""Kinds that most clusters have although Kubernetes has not: how they are defined, and whether they are served.

They come with the addons as CustomResourceDefinitions, and the owner of the cluster may remove them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from podling.controllers.actions import Requeue
from podling.controllers.runtime import Context, ObjectKey
from podling.store.types import Object

DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"

STRING: Object = {"type": "string"}
TIME: Object = {"type": "string", "format": "date-time"}
_NUMBER = r"(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
QUANTITY: Object = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "pattern": rf"^{_NUMBER}(([KMGTPE]i)|[numkMGTPE]|([eE]{_NUMBER}))?$",
    "x-kubernetes-int-or-string": True,
}


def definition(group: str, kind: str, short: Sequence[str], approved_by: str, version: Object, scope: str) -> Object:
    """A CustomResourceDefinition with one version, `v1`."""
    singular = kind.lower()
    plural = f"{singular}es" if singular.endswith("s") else f"{singular}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": approved_by},
            "labels": {"addonmanager.kubernetes.io/mode": "EnsureExists"},
        },
        "spec": {
            "group": group,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "shortNames": [*short],
                "singular": singular,
            },
            "scope": scope,
            "versions": [{"name": "v1", "served": True, "storage": True, **version}],
        },
    }


def version(
    properties: Object, required: Sequence[str] = (), *, columns: Sequence[tuple[str, str, str]] = (), status: bool
) -> Object:
    """What a version says beside its name. `columns` are name, type and path; Age comes last of itself."""
    head: Object = {"apiVersion": STRING, "kind": STRING, "metadata": {"type": "object"}}
    found: Object = {"schema": {"openAPIV3Schema": structure({**head, **properties}, required)}}
    if columns:
        shown = (*columns, ("Age", "date", ".metadata.creationTimestamp"))
        found["additionalPrinterColumns"] = [{"name": n, "type": type, "jsonPath": path} for n, type, path in shown]
    if status:
        found["subresources"] = {"status": {}}
    return found


def structure(properties: Object, required: Sequence[str] = ()) -> Object:
    """The schema of an object."""
    found: Object = {"type": "object", "properties": properties}
    if required:
        found["required"] = [*required]
    return found


async def are_served(context: Context, key: ObjectKey, kinds: Collection[str]) -> bool:
    """Whether the cluster has the kinds. If they are only about to be served, the key is looked at again soon."""
    client = context.client
    if {resource.group_resource for resource in client.resources()}.issuperset(kinds):
        return True
    if all(client.get(DEFINITIONS, "", kind) is not None for kind in kinds):
        await context.act(key, [Requeue(why="its kinds are about to be served", seconds=1)])
    return False
