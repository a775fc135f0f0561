"""Token secrets and signed certificates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from podling.controllers import csrapproving, csrcleaner, csrsigning, tokens
from podling.controllers.actions import Delete, Patch, Requeue, Update
from podling.store.types import Object

ACCOUNT = {"metadata": {"name": "bot", "namespace": "default", "uid": "u1"}}
SECRET = {
    "type": tokens.SECRET_TYPE,
    "metadata": {"name": "s", "namespace": "default", "uid": "u2", "annotations": {tokens.ACCOUNT_NAME: "bot"}},
}


def test_a_token_secret_is_filled_for_its_account() -> None:
    snapshot = tokens.Snapshot(secret=SECRET, account=ACCOUNT)
    [action] = tokens.decide(snapshot, lambda account, secret: "TOKEN", "CA")
    assert isinstance(action, Update)
    assert action.object["data"] == {"token": "VE9LRU4=", "ca.crt": "Q0E=", "namespace": "ZGVmYXVsdA=="}
    assert tokens.decide(tokens.Snapshot(secret=action.object, account=ACCOUNT), lambda a, s: "OTHER", "CA") == []


def test_what_a_token_secret_holds_already_stays_but_for_the_authority() -> None:
    data = {"token": "b3du", "ca.crt": "b2xk", "namespace": "b3RoZXI="}
    snapshot = tokens.Snapshot(secret={**SECRET, "data": data}, account=ACCOUNT)
    [action] = tokens.decide(snapshot, lambda account, secret: "TOKEN", "CA")
    assert isinstance(action, Update)
    assert action.object["data"] == {**data, "ca.crt": "Q0E="}


def test_a_token_secret_goes_with_its_account() -> None:
    [action] = tokens.decide(tokens.Snapshot(secret=SECRET, account=None), lambda a, s: "TOKEN", "CA")
    assert isinstance(action, Delete)


class Strict:
    def sign(self, request: bytes, usages: list[str], seconds: int | None) -> bytes:
        if request != b"good":
            raise csrsigning.SigningRefused("not a good request")
        return b"CERTIFICATE"


def test_an_approved_request_is_signed_or_told_why_not() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    good = {"metadata": {"name": "r"}, "spec": {"request": "Z29vZA==", "usages": ["client auth"]}}
    [action] = csrsigning.decide(csrsigning.Snapshot(request=good, signer=Strict()), now)
    assert isinstance(action, Patch)
    assert isinstance(action.patch, dict)
    assert action.patch["status"] == {"certificate": "Q0VSVElGSUNBVEU="}
    bad = {**good, "spec": {"request": "YmFk"}}
    [action] = csrsigning.decide(csrsigning.Snapshot(request=bad, signer=Strict()), now)
    assert isinstance(action, Patch)
    assert isinstance(action.patch, dict)
    assert action.patch["status"]["conditions"][0]["message"] == "not a good request"


NOW = datetime(2026, 1, 2, tzinfo=UTC)
CREATED = "2026-01-01T00:00:00Z"


def request(*conditions: dict[str, str], **status: Any) -> Object:
    metadata = {"name": "r", "uid": "u", "creationTimestamp": CREATED}
    return {"metadata": metadata, "status": {"conditions": [*conditions], **status}}


def answer(kind: str, at: str) -> dict[str, str]:
    return {"type": kind, "status": "True", "lastUpdateTime": at}


def test_what_approves_itself_is_approved_and_says_why() -> None:
    other = {"type": "Seen", "status": "True"}
    [action] = csrapproving.decide(request(other), lambda _request: "Auto approving.")
    assert isinstance(action, Patch)
    assert isinstance(action.patch, dict)
    approved = {"type": "Approved", "status": "True", "reason": "AutoApproved", "message": "Auto approving."}
    assert (action.subresource, action.patch["status"]) == ("approval", {"conditions": [other, approved]})
    assert csrapproving.decide(request(), lambda _request: "") == []


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        (request(), 0),
        (request(answer("Denied", "2026-01-01T23:30:00Z")), 1800),
        (request(answer("Failed", "2026-01-01T23:30:00Z")), 1800),
        (request(answer("Approved", "2026-01-01T23:30:00Z")), 84600),
        (request(answer("Approved", "2026-01-01T23:30:00Z"), certificate="eA=="), 1800),
    ],
    ids=["pending", "denied", "failed", "approved", "issued"],
)
def test_a_request_goes_when_nobody_needs_it_any_more(asked: Object, left: int) -> None:
    [later] = csrcleaner.decide(asked, NOW)
    assert isinstance(later, Requeue)
    assert later.seconds == left + 1
    [action] = csrcleaner.decide(asked, NOW + timedelta(seconds=left + 1))
    assert isinstance(action, Delete)
    assert (action.name, action.uid) == ("r", "u")


def test_a_request_that_only_others_understand_stays() -> None:
    assert csrcleaner.decide(request({"type": "Seen", "status": "True"}), NOW) == []
