"""Credentials for registries that a pod brings: its `imagePullSecrets`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

import orjson

from podling.api import meta
from podling.api.resources import Reader
from podling.node.state import part
from podling.store.types import Object


def of_pod(pod: Object, reader: Reader) -> list[dict[str, Any]]:
    """The decoded `.dockerconfigjson` documents; secrets that are absent or broken are passed over."""
    documents = (_document(part(secret or {}, "data")) for _, secret in _secrets(pod, reader))
    return [document for document in documents if document]


def missing(pod: Object, reader: Reader) -> list[str]:
    """The names of those that are absent."""
    return [name for name, secret in _secrets(pod, reader) if secret is None]


def _secrets(pod: Object, reader: Reader) -> Iterator[tuple[str, Object | None]]:
    for reference in meta.items(pod, "spec", "imagePullSecrets"):
        if reference.get("name"):
            yield reference["name"], reader.get("secrets", meta.namespace(pod), reference["name"])


def _document(data: Object) -> dict[str, Any] | None:
    try:
        if ".dockerconfigjson" in data:
            return orjson.loads(base64.b64decode(data[".dockerconfigjson"]))
        if ".dockercfg" in data:
            return {"auths": orjson.loads(base64.b64decode(data[".dockercfg"]))}
    except (ValueError, binascii.Error):
        return None
    return None
