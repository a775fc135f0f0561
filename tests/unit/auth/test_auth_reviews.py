"""What an access review may ask, in Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest

from podling.auth.reviews import access_problems

FIELDS = "spec.resourceAttributes.fieldSelector"
LABELS = "spec.resourceAttributes.labelSelector"


def asked(namespace: str | None = None, metadata: dict[str, Any] | None = None, **spec: Any) -> list[str]:
    review = {"metadata": metadata or {}, "spec": spec}
    return [f"{e.field}: {e.message}" for e in access_problems(review, namespace, named=True)]


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        (
            {"fieldSelector": {}},
            [
                f"{FIELDS}.requirements: Required value: "
                f"when {FIELDS} is specified, requirements or rawSelector is required"
            ],
        ),
        (
            {"labelSelector": {"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "Exists"}]}},
            [f'{LABELS}.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements'],
        ),
        (
            {"fieldSelector": {"requirements": [{"operator": "In"}, {"key": "a", "operator": "Newer"}]}},
            [
                f"{FIELDS}.requirements[0].key: Required value: must be specified",
                f"{FIELDS}.requirements[0].values: Required value: "
                "must be specified when `operator` is 'In' or 'NotIn'",
            ],
        ),
        (
            {"labelSelector": {"requirements": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
            [
                f"{LABELS}.requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or "
                "'DoesNotExist'"
            ],
        ),
    ],
)
def test_selectors_of_a_review_are_held_to_their_rules(attributes: dict[str, Any], said: list[str]) -> None:
    assert asked(user="ann", resourceAttributes=attributes) == said


def test_a_review_has_no_metadata_of_its_own() -> None:
    named = {"name": "x", "managedFields": []}
    message = 'metadata: Invalid value: {"name":"x","managedFields":[]}: must be empty'
    assert asked(user="ann", resourceAttributes={}, metadata=named) == [message]
    assert asked(user="ann", resourceAttributes={}, metadata={"managedFields": []}) == []
    local = {"namespace": "a", "labels": {"b": "c"}}
    found = asked("a", local, user="ann", resourceAttributes={"namespace": "a"})
    assert found == [
        'metadata: Invalid value: {"namespace":"a","labels":{"b":"c"}}: must be empty except for namespace'
    ]


def test_a_local_review_asks_of_its_namespace_only() -> None:
    found = asked("a", user="ann", resourceAttributes={"namespace": "b"}, nonResourceAttributes={"path": "/"})
    assert [line.partition(":")[0] for line in found] == [
        "spec.nonResourceAttributes",
        "spec.resourceAttributes.namespace",
        "spec.nonResourceAttributes",
    ]
