"""`--node-capacity` as it is written on a command line."""

from __future__ import annotations

import click
import pytest

from podling.cli.up import capacity_of, command

CONTEXT, OPTION = click.Context(command), command.params[0]


def test_amounts_are_separated_by_commas() -> None:
    found = capacity_of(CONTEXT, OPTION, "cpu=2,memory=4Gi,example.com/gpu=1")
    assert found == {"cpu": "2", "memory": "4Gi", "example.com/gpu": "1"}


@pytest.mark.parametrize("text", ["", "cpu", "cpu=", "=2", "cpu=much", "cpu=2,,memory=1Gi", "memory=4GB", "cpu=-1"])
def test_what_is_no_amount_is_named(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no RESOURCE=QUANTITY"):
        capacity_of(CONTEXT, OPTION, text)
