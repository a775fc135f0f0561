"""Token secrets and signed certificates."""

from __future__ import annotations

from datetime import UTC, datetime

from podling.controllers import csrsigning, tokens
from podling.controllers.actions import Delete, Patch, Update

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
