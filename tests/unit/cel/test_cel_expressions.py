"""CEL: what expressions give, and what is said of those that give nothing."""

from __future__ import annotations

from typing import Any

import pytest

from podling.cel.compiler import compile_expression
from podling.cel.syntax import CompileError
from podling.cel.types import DYN, INT, STRING, list_of, map_of, object_of
from podling.cel.values import CelError

VARIABLES = {
    "self": object_of("self", {"a": INT, "s": STRING, "l": list_of(INT, 5), "m": map_of(STRING, STRING)}),
    "any": DYN,
}
VALUES = {"self": {"a": 3, "s": "abc", "l": [1, 2, -3], "m": {"x": "y"}}, "any": {"n": 1, "list": ["p", "q"]}}


def run(source: str) -> Any:
    return compile_expression(source, VARIABLES).run(VALUES)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("self.a + 2 * 3 == 9", True),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("self.l.all(x, x > 0)", False),
        ("self.l.exists(i, x, x > i)", True),
        ("self.l.filter(x, x > 0).map(x, x * 2)", [2, 4]),
        ("has(self.m.y) || self.m.x == 'y'", True),
        ("self.m.?none.orValue('other')", "other"),
        ("any.n == 1 && any.list[1] == 'q'", True),
        ("'%s has %d'.format([self.s, self.a])", "abc has 3"),
        ("'a-b-c'.split('-', 2)", ["a", "b-c"]),
        ("quantity('1Gi').isGreaterThan(quantity('1000M'))", True),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3')", True),
        ("url('https://host:8/p?q=1').getPort()", "8"),
        ("duration('90m').getHours()", 1),
        ("timestamp('2024-02-29T12:00:00Z').getDayOfYear()", 59),
        ("semver('1.10.0').isGreaterThan(semver('1.9.0-rc.1'))", True),
        ("dyn(1) == 1.0 && dyn(1) != dyn(true)", True),
        ("false && any.missing == 1", False),
        ("any.missing == 1 || true", True),
    ],
)
def test_an_expression_has_its_value(source: str, value: Any) -> None:
    assert run(source) == value


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("any.missing", "no such key: missing"),
        ("self.l[7]", "index out of bounds: 7"),
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("any.n.startsWith('x')", "no such overload"),
    ],
)
def test_an_evaluation_without_a_value_says_why(source: str, message: str) -> None:
    with pytest.raises(CelError, match=message):
        run(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("self.b", "ERROR: <input>:1:5: undefined field 'b'\n | self.b\n | ....^"),
        ("nope", "ERROR: <input>:1:1: undeclared reference to 'nope' (in container '')\n | nope\n | ^"),
        (
            "self.a + 's'",
            "ERROR: <input>:1:8: found no matching overload for '_+_' applied to '(int, string)'\n"
            " | self.a + 's'\n | .......^",
        ),
        (
            "self.a.startsWith('s')",
            "ERROR: <input>:1:18: found no matching overload for 'startsWith' applied to 'int.(string)'\n"
            " | self.a.startsWith('s')\n | .................^",
        ),
    ],
)
def test_the_checker_points_at_the_mistake(source: str, message: str) -> None:
    with pytest.raises(CompileError) as refused:
        compile_expression(source, VARIABLES)
    assert str(refused.value) == message


def test_walking_over_what_has_no_bound_is_dear() -> None:
    open_list = {"self": object_of("self", {"l": list_of(INT)})}
    nested = "self.l.all(x, self.l.all(y, x + y > 0))"
    assert compile_expression(nested, VARIABLES).cost < 1000
    assert compile_expression(nested, open_list).cost > 10**12
