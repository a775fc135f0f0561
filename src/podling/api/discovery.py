"""Discovery: which groups, versions and resources are served, in the older form and in the aggregated one.

`/api`, `/apis`, `/apis/GROUP` list groups and versions, `/api/v1` and `/apis/GROUP/VERSION` the resources. A client
that accepts `apidiscovery.k8s.io` gets all of it at `/api` and `/apis` at once. Documents are built when first asked
for and kept as bytes; a change of the served resources makes a new `Discovery`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import orjson

from podling.api.errors import ApiError
from podling.api.resources import Resource
from podling.store.types import Object

JSON: Final = "application/json"
AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

_GROUP_ORDER: Final = (
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
)
"""The built-in groups by the priority of their APIServices; others follow by name."""


class _Sub(NamedTuple):
    """What a subresource speaks: verbs, and the kind where it is not its parent's (`{}` holds the parent's kind)."""

    verbs: tuple[str, ...]
    kind: str = "{}"
    group: str = ""
    version: str = ""


_STATUS_VERBS: Final = ("get", "patch", "update")
_PROXY_VERBS: Final = ("create", "delete", "get", "patch", "update")
_STREAM_VERBS: Final = ("create", "get")

_SUBRESOURCES: Final = {
    "approval": _Sub(_STATUS_VERBS),
    "attach": _Sub(_STREAM_VERBS, "{}AttachOptions"),
    "binding": _Sub(("create",), "Binding"),
    "ephemeralcontainers": _Sub(_STATUS_VERBS),
    "eviction": _Sub(("create",), "Eviction", "policy", "v1"),
    "exec": _Sub(_STREAM_VERBS, "{}ExecOptions"),
    "finalize": _Sub(("update",)),
    "log": _Sub(("get",)),
    "portforward": _Sub(_STREAM_VERBS, "{}PortForwardOptions"),
    "proxy": _Sub(_PROXY_VERBS, "{}ProxyOptions"),
    "resize": _Sub(_STATUS_VERBS),
    "scale": _Sub(_STATUS_VERBS, "Scale", "autoscaling", "v1"),
    "status": _Sub(_STATUS_VERBS),
    "token": _Sub(("create",), "TokenRequest", "authentication.k8s.io", "v1"),
}

_VERSION: Final = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")
_STABILITY: Final = {None: 2, "beta": 1, "alpha": 0}


def version_rank(version: str) -> tuple[int, int, int, int, str]:
    """A sort key: stable before beta before alpha, newer before older, what is no Kubernetes version last."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return 1, 0, 0, 0, version
    major, stability, minor = match.groups()
    return 0, -_STABILITY[stability], -int(major), -int(minor or 0), version


def subresources_of(resource: Resource) -> list[str]:
    """All its subresources, by name."""
    names = set(resource.subresources)
    if resource.status:
        names.add("status")
    if resource.scale is not None:
        names.add("scale")
    return sorted(names, reverse=resource.custom)  # custom resources tell of their status first


def subresource_kind(resource: Resource, name: str) -> tuple[str, str, str]:
    """Group, version and kind that a subresource speaks; group and version are `""` where they are the parent's."""
    known = _SUBRESOURCES.get(name, _Sub(_STATUS_VERBS))
    return known.group, known.version, known.kind.format(resource.kind)


def subresource_verbs(name: str) -> tuple[str, ...]:
    return _SUBRESOURCES.get(name, _Sub(_STATUS_VERBS)).verbs


def _is_stored(resource: Resource) -> bool:
    """Whether objects are stored in the version of this resource."""
    return resource.to_storage is None and resource.stored_as in ("", resource.api_version)


class Document(NamedTuple):
    """A discovery document, and the headers that go with it."""

    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


def _cached(body: bytes) -> tuple[tuple[str, str], ...]:
    """What lets a client keep the aggregated form, and ask only whether it is still that."""
    etag = hashlib.sha512(body).hexdigest().upper()
    return ("ETag", f'"{etag}"'), ("Vary", "Accept"), ("Cache-Control", "public")


class Discovery:
    """The discovery documents of a set of resources."""

    def __init__(self, resources: Iterable[Resource], *, server_address: str = "") -> None:
        self._resources = sorted(resources, key=lambda resource: resource.plural)
        self._server_address = server_address
        self._stored_as = {item.storage_key: item for item in self._resources if _is_stored(item)}
        self._documents: dict[tuple[str, bool], Document] = {}

    def respond(self, path: str, accept: str) -> Document | None:
        """The document at `path`; None where there is none. Raises ApiError 406."""
        path = path.rstrip("/")
        accepts_aggregated, accepts_plain = _accepted(accept)
        aggregated = accepts_aggregated and path in {"/api", "/apis"}
        document = self._documents.get((path, aggregated))
        if document is None:
            built = self._build(path, aggregated)
            if built is None:
                return None
            body = orjson.dumps(built) + b"\n"
            document = Document(body, AGGREGATED, _cached(body)) if aggregated else Document(body, JSON)
            self._documents[path, aggregated] = document
        if not aggregated and not accepts_plain:
            raise _not_acceptable()
        return document

    def paths(self) -> list[str]:
        """Where there are documents."""
        groups = [f"/apis/{group}" for group in self.groups()]
        versions = [f"/apis/{group}/{version}" for group in self.groups() for version in self.versions(group)]
        return ["/api", "/api/v1", "/apis", *groups, *versions]

    def _build(self, path: str, aggregated: bool) -> Object | None:
        match path.split("/")[1:]:
            case ["api"]:
                return self._aggregated([""]) if aggregated else self._core_versions()
            case ["apis"]:
                return self._aggregated(self.groups()) if aggregated else self._group_list()
            case ["api", version]:
                return self._resource_list("", version)
            case ["apis", group] if group in self.groups():
                return {"kind": "APIGroup", "apiVersion": "v1", **self._group(group)}
            case ["apis", group, version]:
                return self._resource_list(group, version)
            case _:
                return None

    def groups(self) -> list[str]:
        """The named groups, most important first."""
        ranks = {group: rank for rank, group in enumerate(_GROUP_ORDER)}
        names = {resource.group for resource in self._resources if resource.group}
        return sorted(names, key=lambda group: (ranks.get(group, len(ranks)), group))

    def versions(self, group: str) -> list[str]:
        """The versions of a group, the preferred one first."""
        return sorted({item.version for item in self._resources if item.group == group}, key=version_rank)

    def _core_versions(self) -> Object:
        addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._server_address}]
        return {"kind": "APIVersions", "versions": self.versions(""), "serverAddressByClientCIDRs": addresses}

    def _group_list(self) -> Object:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self._group(name) for name in self.groups()]}

    def _group(self, name: str) -> Object:
        versions = [{"groupVersion": f"{name}/{version}", "version": version} for version in self.versions(name)]
        return {"name": name, "versions": versions, "preferredVersion": versions[0]}

    def _resource_list(self, group: str, version: str) -> Object | None:
        resources = self._of(group, version)
        if not resources:
            return None
        entries = [entry for resource in resources for entry in self._entries(resource)]
        # The core group's list has never said its own version.
        head = {"kind": "APIResourceList", "apiVersion": "v1"} if group else {"kind": "APIResourceList"}
        return {**head, "groupVersion": resources[0].api_version, "resources": entries}

    def _of(self, group: str, version: str) -> Sequence[Resource]:
        return [item for item in self._resources if (item.group, item.version) == (group, version)]

    def _entries(self, resource: Resource) -> list[Object]:
        entry: Object = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": _verbs(resource),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        storage_hash = self._storage_version_hash(resource)
        if storage_hash:
            entry["storageVersionHash"] = storage_hash
        return [entry, *(_subresource_entry(resource, name) for name in subresources_of(resource))]

    def _storage_version_hash(self, resource: Resource) -> str:
        """Of the kind that is stored; `""` for what is only ever posted (reviews)."""
        if "watch" not in resource.verbs:
            return ""
        stored = self._stored_as.get(resource.storage_key, resource)
        digest = hashlib.sha256(f"{stored.group}/{stored.version}/{stored.kind}".encode()).digest()
        return base64.b64encode(digest[:8]).decode()

    def _aggregated(self, groups: Sequence[str]) -> Object:
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": [self._aggregated_group(group) for group in groups],
        }

    def _aggregated_group(self, group: str) -> Object:
        versions = [
            {
                "version": version,
                "resources": [_aggregated_resource(resource) for resource in self._of(group, version)],
                "freshness": "Current",
            }
            for version in self.versions(group)
        ]
        return {"metadata": {"name": group} if group else {}, "versions": versions}


_CUSTOM_VERBS: Final = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")


def _verbs(resource: Resource) -> list[str]:
    return [verb for verb in _CUSTOM_VERBS if verb in resource.verbs] if resource.custom else sorted(resource.verbs)


def _subresource_entry(resource: Resource, name: str) -> Object:
    group, version, kind = subresource_kind(resource, name)
    foreign = {"group": group, "version": version} if group else {}
    return {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        **foreign,
        "kind": kind,
        "verbs": list(subresource_verbs(name)),
    }


def _aggregated_resource(resource: Resource) -> Object:
    entry: Object = {
        "resource": resource.plural,
        "responseKind": _response_kind(resource, "", "", resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": _verbs(resource),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    subresources = [
        {
            "subresource": name,
            "responseKind": _response_kind(resource, *subresource_kind(resource, name)),
            "verbs": list(subresource_verbs(name)),
        }
        for name in subresources_of(resource)
    ]
    return {**entry, "subresources": subresources} if subresources else entry


def _response_kind(resource: Resource, group: str, version: str, kind: str) -> Object:
    """Built-in kinds leave out the group and version of the list that they stand in; custom ones do not."""
    if resource.custom and not group:
        group, version = resource.group, resource.version
    return {"group": group, "version": version, "kind": kind}


def _accepted(accept: str) -> tuple[bool, bool]:
    """Whether the client takes the aggregated form, and whether it takes plain JSON."""
    aggregated = plain = not accept
    for item in accept.split(","):
        media_type, *parameters = (part.strip() for part in item.split(";"))
        named = {name: value for name, _, value in (parameter.partition("=") for parameter in parameters)}
        if media_type not in {JSON, "application/*", "*/*", "application/yaml", "application/vnd.kubernetes.protobuf"}:
            continue
        if "as" not in named:
            plain = True
        elif named["as"] == "APIGroupDiscoveryList" and named.get("v") == "v2" and media_type == JSON:
            aggregated = True
    return aggregated and bool(accept), plain


def _not_acceptable() -> ApiError:
    types = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    return ApiError(406, "NotAcceptable", f"only the following media types are accepted: {types}", {})
