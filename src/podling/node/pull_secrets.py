"""Credentials for registries that a pod brings: its `imagePullSecrets`."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson

from podling.api import meta
from podling.api.resources import Reader
from podling.node.state import part
from podling.store.types import Object


def of_pod(pod: Object, reader: Reader) -> list[dict[str, Any]]:
    """The decoded `.dockerconfigjson` documents; secrets that are absent or broken are passed over."""
    found: list[dict[str, Any]] = []
    for reference in meta.spec(pod).get("imagePullSecrets") or ():
        secret = reader.get("secrets", meta.namespace(pod), reference.get("name", ""))
        document = _document(part(secret or {}, "data"))
        if document:
            found.append(document)
    return found


def _document(data: Object) -> dict[str, Any] | None:
    try:
        if ".dockerconfigjson" in data:
            return orjson.loads(base64.b64decode(data[".dockerconfigjson"]))
        if ".dockercfg" in data:
            return {"auths": orjson.loads(base64.b64decode(data[".dockercfg"]))}
    except (ValueError, binascii.Error):
        return None
    return None
