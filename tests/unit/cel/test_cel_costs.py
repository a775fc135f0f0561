"""What expressions cost: at most, by the sizes that a schema allows; and with values."""

from __future__ import annotations

from typing import Any

import pytest

from podling.cel.values import BUDGET, Budget
from podling.kinds.apiextensions.rules import compile_rule, converter, declared_type

SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "s": {"type": "string", "maxLength": 10},
        "open": {"type": "string"},
        "l": {"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 5}},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        "e": {"type": "string", "enum": ["a", "bcd"]},
        "b": {"x-kubernetes-int-or-string": True},
    },
}
VALUE = {"n": 3, "s": "abcdefghij", "open": "x" * 95, "l": ["ab", "cd", "ef"], "m": {"k": 1}, "e": "a", "b": 1}


def program(source: str) -> Any:
    type_ = declared_type(SCHEMA)
    assert type_ is not None
    return compile_rule({"rule": source}, type_).program


@pytest.mark.parametrize(
    ("source", "most", "real"),
    [
        ("true", 0, 0),
        ("self.n > 1", 3, 3),
        ("self.n == 3", 2, 3),  # a number's size is none by its schema
        ("has(self.n) && self.n < 4", 4, 4),
        ("has(self.n) || self.n < 4", 4, 1),
        ("self.n > 5 && self.n < 4", 6, 3),
        ("self.n > 5 ? self.n < 4 : self.s == 'x'", 6, 6),
        ("self.s == self.open", 8, 5),
        ("self.s.contains('efg')", 6, 3),
        ("self.open.matches('^x+$')", 314575, 12),
        ("self.s.startsWith('abc')", 3, 3),
        ("self.e in ['a', 'b']", 14, 2),
        ("self.l.all(x, x.size() > 1)", 21, 21),
        ("self.l.exists(x, x == 'ab')", 21, 12),
        ("self.l.map(x, x + 'y').size() > 1", 63, 47),
        ("self.m.all(k, self.m[k] > 0)", 3595115, 10),
        ("quantity('1Gi').isGreaterThan(quantity('1Mi'))", 3, 3),
        ("string(self.b) == '1'", 314576, 4),
    ],
)
def test_an_expression_has_its_price(source: str, most: int, real: int) -> None:
    compiled, budget = program(source), Budget()
    make = converter(SCHEMA)
    compiled.run({"self": make(VALUE) if make else VALUE}, budget)
    assert (compiled.cost, BUDGET - budget.left) == (most, real)


def test_what_no_schema_bounds_is_dear() -> None:
    assert program("self.l.all(x, self.l.all(y, x + y != ''))").cost < 1000
    assert program("self.m.all(k, self.m.all(j, self.m[j] + self.m[k] > 0))").cost > 10**11
    assert program("('n is ' + string(self.n)) != ''").cost > 10**17


def test_constants_are_computed_once() -> None:
    compiled = program("duration('1h') > duration('1m') && 'a' in ['a', 'b']")
    assert compiled.own == 1
    assert compiled.run({}) is True
