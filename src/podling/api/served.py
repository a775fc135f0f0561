"""Which resources are served: the table that routing and discovery read; custom resources come and go at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from podling.api.resources import Resource


class Served:
    """The served resources, by group, version and plural name."""

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        self._resources: dict[tuple[str, str, str], Resource] = {}
        self._by_name: dict[str, Resource] = {}
        self._listeners: list[Callable[[], None]] = []
        for resource in resources:
            self._add(resource)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._resources.get((group, version, plural))

    def by_name(self, group_resource: str) -> Resource | None:
        """The resource of that name (`deployments.apps`) in the version that was served first, or the first that needs
        nobody to convert it: what is inside reads without waiting."""
        return self._by_name.get(group_resource)

    def has_built_in_group(self, group: str) -> bool:
        """Custom resources are served by another server behind ours, which words what it does not have otherwise."""
        return any(r.group == group and not r.custom for r in self._resources.values())

    def all(self) -> Sequence[Resource]:
        return tuple(self._resources.values())

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls `listener` after every change of the table: discovery and OpenAPI are to be built anew."""
        self._listeners.append(listener)

    def add(self, *resources: Resource) -> None:
        """Serves more resources; one of the same group, version and name is replaced."""
        for resource in resources:
            self._add(resource)
        self._changed()

    def remove(self, group: str, plural: str, version: str | None = None) -> None:
        """Ends the serving of a resource, in one version or in all. Its objects are not touched."""
        gone = [k for k in self._resources if k[0] == group and k[2] == plural and version in (None, k[1])]
        for key in gone:
            del self._resources[key]
        self._by_name = {}
        for resource in self._resources.values():
            self._name(resource)
        self._changed()

    def _add(self, resource: Resource) -> None:
        self._resources[resource.group, resource.version, resource.plural] = resource
        self._name(resource)

    def _name(self, resource: Resource) -> None:
        known = self._by_name.get(resource.group_resource)
        better = known is not None and known.conversion is not None and resource.conversion is None
        if known is None or known.version == resource.version or better:
            self._by_name[resource.group_resource] = resource

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()
