"""The target as the autoscaler sees it: through its scale subresource, whatever its kind."""

from __future__ import annotations

from typing import NamedTuple

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.api.resources import ScalePaths
from podling.api.scale import scale_of, with_path
from podling.controllers import targets
from podling.store.types import Object


class ScaleUnavailable(Exception):
    """There is no scale to read; the message is what the API says."""


class Scale(NamedTuple):
    resource: str
    name: str
    paths: ScalePaths
    replicas: int
    """Wanted."""
    present: int
    """Counted in the status."""
    selector: str

    def patch(self, size: int) -> Object:
        """What makes the target that size."""
        return with_path({}, self.paths.spec_replicas.split("."), size)


def find(client: Client, namespace: str, reference: Object) -> Scale:
    """The scale of what a CrossVersionObjectReference names. Raises `ScaleUnavailable`."""
    served, target = targets.find_object(client, namespace, reference)
    if served is None:
        group = reference.get("apiVersion", "").rpartition("/")[0]
        raise ScaleUnavailable(f'no matches for kind "{reference["kind"]}" in group "{group}"')
    if served.scale is None:
        raise ScaleUnavailable("the server could not find the requested resource")
    if target is None:
        raise ScaleUnavailable(f'{served.group_resource} "{reference["name"]}" not found')
    try:
        scale = scale_of(served.scale, target)
    except ApiError as error:
        raise ScaleUnavailable(error.message) from error
    return Scale(
        served.group_resource,
        reference["name"],
        served.scale,
        meta.spec(scale).get("replicas", 0),
        meta.status(scale)["replicas"],
        meta.status(scale).get("selector", ""),
    )


def size_of(client: Client, namespace: str, owner: Object) -> int | None:
    """How many replicas an owner reference's object wants; `None` if it is there no longer.

    Raises `ScaleUnavailable` for a kind that has no scale.
    """
    served, found = targets.find_object(client, namespace, owner)
    if served is None:
        raise ScaleUnavailable(f'no matches for kind "{owner["kind"]}" in version "{owner["apiVersion"]}"')
    if served.scale is None:
        raise ScaleUnavailable(f"{served.group_resource} does not implement the scale subresource")
    if found is None or meta.uid(found) != owner["uid"]:
        return None
    return meta.spec(scale_of(served.scale, found)).get("replicas", 0)
