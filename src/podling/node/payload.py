"""The files of volumes that show objects: ConfigMaps, Secrets, the downward API, tokens, and projections of them.

Pure: objects come through a `Reader`, tokens ready-made. `VolumeError` carries the kubelet's message.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from podling.api import meta
from podling.api.resources import Reader
from podling.node.environment import ConfigError, PodContext, field_value, resource_value
from podling.node.state import container_of, part
from podling.store.types import Object

DEFAULT_MODE = 0o644


class VolumeError(Exception):
    """A volume cannot be set up now; trying again later may help."""


class File(NamedTuple):
    data: bytes
    mode: int


Payload = dict[str, File]
"""By path relative to the volume."""


class TokenRequest(NamedTuple):
    """What a projected token is asked for with; equal requests may share a token."""

    audience: str
    seconds: int


def token_request(source: Object) -> TokenRequest:
    return TokenRequest(source.get("audience", ""), source.get("expirationSeconds", 3600))


def token_requests(volume: Object) -> Iterator[TokenRequest]:
    for source in part(volume, "projected").get("sources") or ():
        if "serviceAccountToken" in source:
            yield token_request(source["serviceAccountToken"])


def is_payload(volume: Object) -> bool:
    return any(name in volume for name in ("configMap", "secret", "downwardAPI", "projected"))


def references(volume: Object) -> Iterator[tuple[str, str]]:
    """The objects that a volume shows: `("configmaps", name)`, `("secrets", name)`."""
    if "configMap" in volume:
        yield "configmaps", volume["configMap"].get("name", "")
    if "secret" in volume:
        yield "secrets", volume["secret"].get("secretName", "")
    for source in part(volume, "projected").get("sources") or ():
        if "configMap" in source:
            yield "configmaps", source["configMap"].get("name", "")
        if "secret" in source:
            yield "secrets", source["secret"].get("name", "")


def payload(volume: Object, context: PodContext, reader: Reader, tokens: Mapping[TokenRequest, str]) -> Payload:
    """The files of one volume of the pod's spec."""
    if "configMap" in volume:
        source: Object = volume["configMap"]
        return _config_map(source, _mode(source), context, reader)
    if "secret" in volume:
        source = volume["secret"]
        return _secret(source, source.get("secretName", ""), _mode(source), context, reader)
    if "downwardAPI" in volume:
        return _downward(volume["downwardAPI"], _mode(volume["downwardAPI"]), context)
    return _projected(volume["projected"], context, reader, tokens)


def _mode(source: Object) -> int:
    return source.get("defaultMode") or DEFAULT_MODE


def _projected(projected: Object, context: PodContext, reader: Reader, tokens: Mapping[TokenRequest, str]) -> Payload:
    mode = _mode(projected)
    files: Payload = {}
    for source in projected.get("sources") or ():
        if "configMap" in source:
            files |= _config_map(source["configMap"], mode, context, reader)
        if "secret" in source:
            files |= _secret(source["secret"], source["secret"].get("name", ""), mode, context, reader)
        if "downwardAPI" in source:
            files |= _downward(source["downwardAPI"], mode, context)
        if "serviceAccountToken" in source:
            wanted: Object = source["serviceAccountToken"]
            files[wanted["path"]] = File(tokens[token_request(wanted)].encode(), mode)
    return files


def _config_map(source: Object, mode: int, context: PodContext, reader: Reader) -> Payload:
    name = source.get("name", "")
    found = _object("configmaps", name, source, context, reader)
    if found is None:
        return {}
    data = {key: text.encode() for key, text in part(found, "data").items()}
    data |= {key: base64.b64decode(text) for key, text in part(found, "binaryData").items()}
    return _chosen(data, source, mode, "configmap references non-existent config key: ")


def _secret(source: Object, name: str, mode: int, context: PodContext, reader: Reader) -> Payload:
    found = _object("secrets", name, source, context, reader)
    if found is None:
        return {}
    data = {key: base64.b64decode(text) for key, text in part(found, "data").items()}
    return _chosen(data, source, mode, "references non-existent secret key: ")


def _object(resource: str, name: str, source: Object, context: PodContext, reader: Reader) -> Object | None:
    found = reader.get(resource, meta.namespace(context.pod), name)
    if found is None and not source.get("optional"):
        raise VolumeError(f'{resource.removesuffix("s")} "{name}" not found')
    return found


def _chosen(data: Mapping[str, bytes], source: Object, mode: int, missing: str) -> Payload:
    """All keys, or those of `items` under their paths."""
    if not source.get("items"):
        return {key: File(content, mode) for key, content in data.items()}
    files: Payload = {}
    for item in source["items"]:
        if item["key"] in data:
            files[item["path"]] = File(data[item["key"]], item.get("mode") or mode)
        elif not source.get("optional"):
            raise VolumeError(missing + item["key"])
    return files


def _downward(source: Object, mode: int, context: PodContext) -> Payload:
    return {
        item["path"]: File(_downward_text(item, context).encode(), item.get("mode") or mode)
        for item in source.get("items") or ()
    }


def _downward_text(item: Object, context: PodContext) -> str:
    try:
        if "fieldRef" in item:
            return field_value(item["fieldRef"]["fieldPath"], context)
        reference: Object = item["resourceFieldRef"]
        container = container_of(context.pod, reference.get("containerName", "")) or {}
        return resource_value(reference, container, context)
    except ConfigError as error:
        raise VolumeError(str(error)) from error
