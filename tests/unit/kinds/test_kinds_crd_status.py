"""The status of CustomResourceDefinitions, which clients may write."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from podling.api.resources import User, Write
from podling.kinds.apiextensions import customresourcedefinition


def test_a_status_update_without_a_status_is_an_empty_one() -> None:
    new: dict[str, Any] = {"metadata": {"name": "things.example.com"}, "spec": {"versions": []}}
    write = Write(
        resource=cast(Any, SimpleNamespace(status=True)),
        operation="UPDATE",
        new=new,
        old={**new, "status": {"storedVersions": ["v1"]}},
        user=User("u"),
        reader=cast(Any, None),
        now=datetime(2024, 1, 1, tzinfo=UTC),
        subresource="status",
    )
    customresourcedefinition.prepare(write)
    assert new["status"] == {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": None}
