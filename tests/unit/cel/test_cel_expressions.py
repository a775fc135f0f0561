"""CEL: what expressions give, and what is said of those that give nothing."""

from __future__ import annotations

from typing import Any

import pytest

from podling.cel.compiler import compile_expression
from podling.cel.syntax import CompileError
from podling.cel.types import DYN, INT, STRING, list_of, map_of, object_of
from podling.cel.values import Budget, CelError, CostExceeded, EvaluationError, Optional, OutOfBudget

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
        ("self.l.first().value() + self.l.last().value()", -2),
        ("optional.unwrap([optional.of(1), optional.none()])", [1]),
        ("format.named('uuid').value().validate('no')", Optional(["must be a valid uuid"], True)),
        ("format.dns1123LabelPrefix().validate('a-').hasValue()", False),
        ("[3, 1, 2].sort() == [1, 2, 3] && [3, 1].reverse() == [1, 3]", True),
        ("['bb', 'a'].sortBy(x, x.size())", ["a", "bb"]),
        ("[[1], [2, 3]].flatten()", [1, 2, 3]),
        ("[1, 2, 1].distinct() == lists.range(3).slice(1, 3)", True),
        ("string(1000000.0) + ' ' + string(0.5)", "1e+06 0.5"),
        ("'%f %e %s'.format([1234.5, 3.14, ['a', 1.5]])", '1,234.500000 3.140000×10⁰⁰ ["a", 1.500000]'),
        ("url('https://a/with space?b=c d').getEscapedPath()", "/with%20space"),
        ("type(self.a) == int && type(type(1)) == type", True),
        ("duration('3.004s').getMilliseconds()", 3004),
        ("string(timestamp('2011-08-18T19:03:37.010+01:00'))", "2011-08-18T19:03:37.01+01:00"),
        ("optional.of(1).or(optional.of(1 / 0)).value()", 1),
        ("{'a': 1, ?'b': optional.none()}", {"a": 1}),
        ("{1: 'a'}.transformMapEntry(k, v, {v: k}) == {'a': 1}", True),
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
        ("self.s.find(any.list[0] + '(')", r"Illegal regex: error parsing regexp: missing closing \): `p\(`"),
        ("self.s.matches(any.list[0] + '(')", r"^error parsing regexp: missing closing \): `p\(`"),
        ("[1].slice(0, 2)", r"cannot slice\(0, 2\), list is length 1"),
        ("'%d'.format(['x'])", "decimal clause can only be used on integers, was given string"),
        ("url('a b')", 'parse "a b": invalid URI for request'),
        ("ip('1.2.3.256')", r'ParseAddr\("1.2.3.256"\): IPv4 field has value >255'),
        ("{dyn([1]): 2}.size() == 1", "unsupported key type: list"),
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
        (
            "self.s.matches('(')",
            "ERROR: <input>:1:16: invalid matches argument\n | self.s.matches('(')\n | ...............^",
        ),
        (
            "duration('1x') == duration('1h')",
            "ERROR: <input>:1:10: invalid duration argument\n | duration('1x') == duration('1h')\n | .........^",
        ),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        (
            "self.s == null",
            "ERROR: <input>:1:8: found no matching overload for '_==_' applied to '(string, null)'\n"
            " | self.s == null\n | .......^",
        ),
        ("self.s.find('(')", "error parsing regexp: missing closing ): `(`"),
    ],
)
def test_the_checker_points_at_the_mistake(source: str, message: str) -> None:
    with pytest.raises(CompileError) as refused:
        compile_expression(source, VARIABLES)
    assert str(refused.value) == message


def test_objects_are_made_where_they_may_be() -> None:
    source = "Object{spec: Object.spec{replicas: self.a, ?x: self.m.?none}}"
    made = compile_expression(source, VARIABLES, makes=True)
    assert str(made.type) == "Object"
    value = made.run(VALUES)
    assert value == {"spec": {"replicas": 3}}
    assert (value.type, value["spec"].type) == ("Object", "Object.spec")
    with pytest.raises(CompileError, match="undeclared reference to 'Object'"):
        compile_expression(source, VARIABLES)
    with pytest.raises(CompileError, match="undefined field 'why'"):
        compile_expression("JSONPatch{why: 1}", VARIABLES, makes=True)
    with pytest.raises(CompileError, match="expected type of field 'op' is 'string' but provided type is 'int'"):
        compile_expression("JSONPatch{op: 1}", VARIABLES, makes=True)


LONG = {**VALUES, "any": {"list": list(range(2000)), "n": 1}}


def test_an_evaluation_that_takes_too_long_is_ended() -> None:
    nested = compile_expression("any.list.all(x, any.list.all(y, x + y >= 0))", VARIABLES)
    assert nested.run(VALUES | {"any": {"list": [1, 2]}}) is True
    with pytest.raises(CostExceeded, match="operation cancelled: actual cost limit exceeded"):
        nested.run(LONG)


def test_walking_over_text_costs_too() -> None:
    long = {**VALUES, "any": {"text": "x" * 100_000}}
    budget = Budget(9_000)
    with pytest.raises(OutOfBudget, match="running out of cost budget"):
        compile_expression("any.text.contains('y')", VARIABLES).run(long, budget)


def test_evaluations_share_a_budget() -> None:
    budget = Budget(50_000)
    once = compile_expression("any.list.all(x, x >= 0)", VARIABLES)
    with pytest.raises(OutOfBudget):
        for _ in range(100):
            once.run(LONG, budget)


def test_many_terms_are_no_depth_but_parts_within_parts_are() -> None:
    assert compile_expression(" && ".join(["true"] * 3000), {}).run({}) is True
    assert compile_expression(" || ".join(["false"] * 3000 + ["true"]), {}).run({}) is True
    for deep in ("(" * 2000 + "1" + ")" * 2000, "[" * 2000 + "]" * 2000, "-" * 3000 + "x", " + ".join("1" * 3000)):
        with pytest.raises(CompileError, match=r"<input>:-1:0: expression recursion limit exceeded"):
            compile_expression(deep, {"x": INT})


def test_values_too_deep_to_be_compared_are_an_error_of_the_expression() -> None:
    deep: object = {}
    for _ in range(3000):
        deep = {"a": deep}
    with pytest.raises(EvaluationError, match="recursion limit"):
        compile_expression("x == y", {"x": DYN, "y": DYN}).run({"x": deep, "y": {"a": deep}})


def test_of_many_problems_in_a_long_expression_not_all_is_shown() -> None:
    with pytest.raises(CompileError) as caught:
        compile_expression(" && ".join(["nobody"] * 150), {})
    assert str(caught.value).endswith("\n50 more errors were truncated")
    with pytest.raises(CompileError) as caught:
        compile_expression("nobody" + " " * 20_000, {})
    assert str(caught.value) == "ERROR: <input>:1:1: undeclared reference to 'nobody' (in container '')"
    with pytest.raises(CompileError, match="code point size exceeds limit: size: 100001, limit 100000"):
        compile_expression(" " * 100_001, {})
