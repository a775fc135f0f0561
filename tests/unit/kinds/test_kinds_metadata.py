"""The rules of `metadata`, which all kinds share."""

from __future__ import annotations

from podling.kinds.validation.meta import owner_references


def test_owners_are_refused_at_their_list() -> None:
    unfit = {"apiVersion": "a/b/c", "kind": "", "name": "", "uid": ""}
    banned = {"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}
    path = "metadata.ownerReferences"
    assert [str(error) for error in owner_references(path, [unfit, banned])] == [
        f'{path}.apiVersion: Invalid value: "a/b/c": version must not be empty',
        f'{path}.kind: Invalid value: "": must not be empty',
        f'{path}.name: Invalid value: "": must not be empty',
        f'{path}.uid: Invalid value: "": must not be empty',
        f'{path}: Invalid value: {{"apiVersion":"v1","kind":"Event","name":"e","uid":"u"}}: '
        "/v1, Kind=Event is disallowed from being an owner",
    ]
