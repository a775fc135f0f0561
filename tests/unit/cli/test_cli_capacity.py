"""`--node-capacity` as it is written on a command line."""

from __future__ import annotations

import click
import pytest

from podling.cli.up import capacity_of, command

CONTEXT, OPTION = click.Context(command), command.params[0]


def test_amounts_are_separated_by_commas() -> None:
    found = capacity_of(CONTEXT, OPTION, "cpu=2,memory=4Gi,example.com/gpu=1")
    assert found == {"cpu": "2", "memory": "4Gi", "example.com/gpu": "1"}


@pytest.mark.parametrize("text", ["", "cpu", "cpu=", "=2", "cpu=much", "cpu=2,,memory=1Gi", "memory=4GB"])
def test_what_is_no_amount_is_named(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no RESOURCE=QUANTITY"):
        capacity_of(CONTEXT, OPTION, text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gpu=1", "example.com/gpu"),
        ("a b=1", "is none of cpu"),
        ("cpu=-1", "is negative"),
        ("pods=1.5", "is no whole number"),
        ("cpu=2,memory=100Mi", '"memory=100Mi" leaves nothing for pods: a node keeps 100Mi back'),
    ],
)
def test_what_no_node_can_have_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(click.BadParameter, match=complaint):
        capacity_of(CONTEXT, OPTION, text)
