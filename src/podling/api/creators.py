"""Subresources that are created on an object: `pods/binding`, `pods/eviction`, `serviceaccounts/token`.

What is created is not stored; the creating does something to the object it is created on. HTTP clients and in-process
ones come by the same function.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from podling.api.requests import Call
from podling.api.resources import Resource
from podling.store.types import Object

Create = Callable[[str, str, Object, Call], Awaitable[Object]]
"""Of the namespace, the name of the object, the decoded body, and the call. Gives what is answered (201)."""

SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


@dataclass(frozen=True, slots=True)
class Creator:
    """How one such subresource is created; `body` tells of which kind the request's body is."""

    body: Resource
    create: Create
