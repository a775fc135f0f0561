"""Quantities: parsing, comparing, writing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import quantity
from podling.api.quantity import QuantityError


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("1000m", "1"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("5.", "5."),
        ("1500", "1500"),
        ("100k", "100k"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("2000Ki", "2000Ki"),
        ("0.1Mi", "104857600m"),
        ("1000Ki", "1000Ki"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("1E", "1E"),
        ("1000000n", "1m"),
        ("0.0000000001", "1n"),
        ("-1.5", "-1500m"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("+1", "+1"),
        ("01Mi", "01Mi"),
        ("1.Gi", "1.Gi"),
        ("3.0", "3"),
        ("1000000m", "1k"),
    ],
)
def test_a_quantity_is_written_in_canonical_form(text: str, written: str) -> None:
    assert quantity.canonical(text) == written


def test_amounts_compare_across_notations() -> None:
    assert quantity.parse("1Gi").nanos > quantity.parse("1G").nanos
    assert quantity.parse("1000m").nanos == quantity.parse("1").nanos
    assert quantity.parse("100m").milli == 100
    assert quantity.parse("1.5Gi").value == 1610612736
    assert quantity.parse("0.3").value == 1


def test_a_number_is_a_quantity_too() -> None:
    assert str(quantity.of(2)) == "2"
    assert str(quantity.of(0.25)) == "250m"
    assert str(quantity.of(" 2Gi ")) == "2Gi"


def test_too_much_is_capped() -> None:
    assert quantity.parse("99999999999Ei").value == 2**63 - 1
    assert quantity.parse("1e999999").value == 2**63 - 1
    assert str(quantity.parse("1e21")) == "1e21"


@pytest.mark.parametrize(
    "text", ["", "abc", "1x", "1.2.3", "1KiB", "--1", "1 Gi", "1e", "0x10", "1e99999999", "1" * 5000]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(QuantityError):
        quantity.parse(text)


@given(st.integers(-(10**18), 10**18), st.sampled_from(["n", "u", "m", "", "k", "M", "Ki", "Mi", "Gi", "e3", "e-3"]))
def test_the_canonical_form_is_the_same_amount_and_stays_as_it_is(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    written = quantity.canonical(text)
    assert quantity.parse(written).nanos == quantity.parse(text).nanos
    assert quantity.canonical(written) == written
