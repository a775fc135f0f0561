"""The rules of `metadata`, which all kinds share."""

from __future__ import annotations

import copy

import pytest

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


@pytest.mark.parametrize(
    ("kind", "subresource", "labels", "prefix"),
    [
        ("configmaps/v1", "", 4, 2),
        ("serviceaccounts/v1", "", 4, 2),
        ("resourcequotas/v1", "", 3, 1),
        ("resourcequotas/v1", "status", 3, 1),
        ("limitranges/v1", "", 3, 2),
        ("namespaces/v1", "", 4, 2),
        ("persistentvolumeclaims/v1", "status", 3, 1),
        ("roles.rbac.authorization.k8s.io/v1", "", 4, 2),
        ("customresourcedefinitions.apiextensions.k8s.io/v1", "status", 3, 1),
    ],
)
def test_the_machinery_checks_the_metadata_of_a_change_before_the_kind_does(
    kinds, writes, kind, subresource, labels, prefix
) -> None:
    old = writes(kinds[kind], {"metadata": {}}).new
    new = copy.deepcopy(old)
    new["metadata"] |= {"generateName": "/", "labels": {"a b": "c"}}
    said = [e.field for e in kinds[kind].strategy.validate(writes(kinds[kind], new, old, subresource=subresource))]
    assert said.count("metadata.labels") == labels
    assert said.count("metadata.generateName") == prefix
