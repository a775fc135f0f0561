"""Expressions in CEL, most of them well-formed, some of them costly, few of them sensible."""

from __future__ import annotations

import random

_ATOMS = (
    *(
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "1u",
        "18446744073709551615u",
        "0x1F",
        "1.5",
        "1e308",
    ),
    *("true", "false", "null", "''", "'a'", '"é"', "b'x'", "r'\\d'", "'\\u0041'", "'''x'''", "[]", "{}", "[1, 2, 3]"),
    *("{'a': 1}", "[[1], [2]]", "int", "type(1)", "dyn(1)", "duration('1h')", "timestamp('2024-01-01T00:00:00Z')"),
    *(
        "quantity('1Gi')",
        "quantity('x')",
        "url('https://a/b')",
        "ip('10.0.0.1')",
        "cidr('10.0.0.0/8')",
        "semver('1.2.3')",
    ),
    *("optional.of(1)", "optional.none()", "size([1])", "math.greatest(1, 2)", "format.named('uuid').value()"),
)
_NAMES = (
    *("self", "self.n", "self.s", "self.l", "self.any", "oldSelf", "self.spec", "self.metadata.name", "self.spec.l[0]"),
    *("object", "object.spec", "object.spec.n", "object.metadata.labels", "oldObject", "request", "request.userInfo"),
    *(
        "params",
        "namespaceObject",
        "variables.v",
        "authorizer",
        "self.?x.?y",
        "self['n']",
        "object.spec.?s.orValue('x')",
    ),
)
_BINARY = ("+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in")
_MACROS = ("all", "exists", "exists_one", "map", "filter")
_PATTERNS = (
    "'^a+$'",
    "'[a-z]*'",
    "'('",
    "'\\\\p{L}'",
    "'x{1000}'",
    "''",
    "'(?i)a'",
    "'a**'",
    "'\\\\C'",
    "'(a+)+$'",
    "'(.*)*x'",
)
_CALLS = (
    *(
        "size({0})",
        "string({0})",
        "int({0})",
        "double({0})",
        "uint({0})",
        "bytes({0})",
        "type({0})",
        "has({0}.a)",
        "!{0}",
    ),
    *(
        "-{0}",
        "({0})",
        "{0}.size()",
        "{0}.lowerAscii()",
        "{0}.trim()",
        "{0}.split('')",
        "{0}.join(',')",
        "{0}.reverse()",
    ),
    *("{0}.contains({1})", "{0}.startsWith({1})", "{0}.indexOf({1})", "{0}.replace({1}, 'x')", "{0}.substring({1})"),
    *("{0}.charAt({1})", "{0}[{1}]", "{0}.format([{1}])", "{0}.getFullYear()", "{0}.getHours('Europe/Berlin')"),
    *(
        "{0}.isSorted()",
        "{0}.sum()",
        "{0}.min()",
        "{0}.flatten()",
        "{0}.distinct()",
        "lists.range({0})",
        "{0}.slice(0, {1})",
    ),
    *(
        "sets.contains({0}, {1})",
        "sets.intersects({0}, {1})",
        "{0}.isGreaterThan({1})",
        "{0}.add({1})",
        "quantity({0})",
    ),
    *("isQuantity({0})", "isURL({0})", "isIP({0})", "{0}.containsIP({1})", "cel.bind(x, {0}, x)", "{0} ? {1} : {0}"),
    *(
        "{0}.orValue({1})",
        "{0}.?a",
        "[{0}, {1}]",
        "{{'k': {0}}}",
        "{{{0}: {1}}}",
        "base64.encode({0})",
        "{0}.transformList(i, v, v)",
    ),
    *("authorizer.group('').resource({0}).check('get').allowed()", "{0}.matches({1})", "Object{{spec: {0}}}"),
    *("[JSONPatch{{op: 'add', path: '/metadata/labels', value: {0}}}]", "jsonpatch.escapeKey({0})"),
)


def expression(rng: random.Random, depth: int = 0) -> str:
    """One expression."""
    roll = rng.random()
    if depth > 5 or roll < 0.2 + depth * 0.1:
        return rng.choice(_NAMES) if rng.random() < 0.6 else rng.choice(_ATOMS)
    if roll < 0.5:
        return f"{expression(rng, depth + 1)} {rng.choice(_BINARY)} {expression(rng, depth + 1)}"
    if roll < 0.6:
        return f"{expression(rng, depth + 1)}.{rng.choice(_MACROS)}(x, {expression(rng, depth + 1)})"
    if roll < 0.63:
        return f"{expression(rng, depth + 1)}.matches({rng.choice(_PATTERNS)})"
    if roll < 0.65:
        return _unusual(rng, depth)
    return rng.choice(_CALLS).format(expression(rng, depth + 1), expression(rng, depth + 1))


def _unusual(rng: random.Random, depth: int) -> str:
    """Deep, wide, long, many loops in each other, or hardly an expression at all."""
    inner = expression(rng, depth + 3)
    loops = "self.l" if rng.random() < 0.5 else "lists.range(100000)"
    return rng.choice(
        (
            "(" * 300 + inner + ")" * 300,
            "!" * 500 + inner,
            "[" * 200 + "]" * 200,
            " + ".join([inner] * 200),
            " && ".join([inner] * 200),
            "'" + "x" * 30_000 + "'",
            f"{loops}.all(a, {loops}.all(b, {loops}.all(c, a == b || b == c)))",
            f"{loops}.map(a, {loops}.map(b, {loops}))",
            "'x'.replace('', 'yyyyyyyyyy')" + ".replace('y', 'zzzzzzzzzz')" * 20,
            "",
            "//",
            inner[: len(inner) // 2],
            inner + ")",
            "\0",
        )
    )
