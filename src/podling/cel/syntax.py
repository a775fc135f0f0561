"""From the text of an expression to its tree; errors in the words of cel-go's parser."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple


class Problem(NamedTuple):
    """What is wrong, and at which character of the text."""

    position: int
    message: str


TOO_DEEP: Final = Problem(-1, "expression recursion limit exceeded: 250")
"""Of parts within parts. Python's own limit is met first, after a third as many; nobody writes either."""
_MOST_SHOWN: Final = 100
_LONGEST_SHOWN: Final = 16_384
_LONGEST: Final = 100_000
"""As in cel-go: problems that are listed, bytes of a line that is shown with them, characters of an expression."""


class CompileError(Exception):
    """An expression that is not well formed or not well typed; `str` shows it as cel-go does."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.problems = problems
        shown = [_shown(source, problem) for problem in problems[:_MOST_SHOWN]]
        if len(problems) > _MOST_SHOWN:
            shown.append(f"{len(problems) - _MOST_SHOWN} more errors were truncated")
        super().__init__("\n".join(shown))


class InstantiationError(CompileError):
    """An expression that is well typed, but calls a function with a constant that it has no value for."""

    def __init__(self, why: str) -> None:
        Exception.__init__(self, why)
        self.problems = []


def _shown(source: str, problem: Problem) -> str:
    if problem.position < 0:
        return f"ERROR: <input>:-1:0: {problem.message}"
    before = source[: problem.position]
    line = before.count("\n")
    column = problem.position - (before.rfind("\n") + 1)
    text = source.split("\n")[line].replace("\t", " ")
    said = f"ERROR: <input>:{line + 1}:{column + 1}: {problem.message}"
    return f"{said}\n | {text}\n | {'.' * column}^" if len(text.encode()) <= _LONGEST_SHOWN else said


@dataclass(slots=True)
class Node:
    """A part of an expression. `kind`: literal, name, field, index, call, list, map, struct, has, fold."""

    kind: str
    position: int
    value: Any = None
    parts: tuple[Node, ...] = ()
    target: Node | None = None
    optional: bool = False


class Token(NamedTuple):
    kind: str
    text: str
    position: int
    value: Any = None


_TOKENS: Final = re.compile(
    r"""(?P<space>(?:\s+|//[^\n]*)+)
      | (?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
      | (?P<uint>(?:0x[0-9a-fA-F]+|\d+)[uU]) | (?P<int>0x[0-9a-fA-F]+|\d+)
      | (?P<string>[bB]?[rR]?(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"
                               |'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")
                  |[rR][bB]?(?:'[^'\n]*'|"[^"\n]*"))
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*) | (?P<escaped>`[A-Za-z0-9_.\-/ ]+`)
      | (?P<symbol>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|.)", re.DOTALL)
_EXPECTED: Final = (
    "{{'[', '{{', '(', {}'.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, "
    "IDENTIFIER}}"
)
RESERVED: Final = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_WORDS: Final = frozenset({"true", "false", "null", "in"})
_RELATIONS: Final = ("==", "!=", "<=", ">=", "<", ">", "in")
_OPERATORS: Final = {
    **{symbol: f"_{symbol}_" for symbol in ("==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "&&", "||")},
    "in": "@in",
}


def _unescaped(text: str, raw: bool) -> str:
    if raw:
        return text

    def replaced(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "xuU" and len(code) > 1:
            return chr(int(code[1:], 16))
        if len(code) == 3:
            return chr(int(code, 8))
        return _ESCAPES.get(code, code)

    return _ESCAPE.sub(replaced, text)


def _literal(kind: str, text: str) -> Any:
    match kind:
        case "float":
            return float(text)
        case "uint":
            return int(text[:-1], 0 if text.startswith("0x") else 10)
        case "int":
            return int(text, 0 if text.startswith("0x") else 10)
        case _:
            prefix = re.match("[bBrR]*", text)
            marks = prefix[0].lower() if prefix else ""
            body = text[len(marks) :]
            quotes = 3 if body[:3] in ("'''", '"""') and len(body) >= 6 else 1
            inner = _unescaped(body[quotes:-quotes], "r" in marks)
            return inner.encode("latin-1" if body.count("\\x") else "utf-8") if "b" in marks else inner


def tokens(source: str) -> tuple[list[Token], list[Problem]]:
    found: list[Token] = []
    problems: list[Problem] = []
    at = 0
    while at < len(source):
        match = _TOKENS.match(source, at)
        if match is None:
            end = at + 2 if source[at] in "=&|" and at + 1 < len(source) else at + 1
            problems.append(Problem(at, f"Syntax error: token recognition error at: '{source[at:end]}'"))
            at = end
            continue
        kind = match.lastgroup or ""
        if kind != "space":
            value = _literal(kind, match[0]) if kind in ("float", "uint", "int", "string") else None
            found.append(Token(kind, match[0], at, value))
        at = match.end()
    found.append(Token("end", "<EOF>", len(source)))
    return found, problems


def qualified_name(node: Node) -> str:
    """`Object.spec`, where a part is only names; else `""`."""
    if node.kind == "name":
        return str(node.value)
    above = qualified_name(node.target) if node.kind == "field" and node.target and not node.optional else ""
    return f"{above}.{node.value}" if above else ""


class _Failure(Exception):
    pass


def parse(source: str) -> Node:
    """Raises CompileError."""
    if len(source) > _LONGEST:
        size = f"expression code point size exceeds limit: size: {len(source)}, limit {_LONGEST}"
        raise CompileError(source, [Problem(-1, size)])
    found, problems = tokens(source)
    parser = _Parser(found, problems)
    try:
        tree = parser.expression()
        parser.finish()
    except _Failure:
        tree = None
    if problems or tree is None:
        raise CompileError(source, problems)
    return tree


def _balanced(function: str, terms: Sequence[Node], positions: Sequence[int]) -> Node:
    if not positions:
        return terms[0]
    middle = len(positions) // 2
    left = _balanced(function, terms[: middle + 1], positions[:middle])
    right = _balanced(function, terms[middle + 1 :], positions[middle + 1 :])
    return Node("call", positions[middle], function, (left, right))


class _Parser:
    def __init__(self, found: list[Token], problems: list[Problem]) -> None:
        self._tokens = found
        self._problems = problems
        self._at = 0
        self._may_close = False
        """Whether a list that was just opened may end here, which errors tell."""

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _takes(self, *texts: str) -> Token | None:
        token = self._peek()
        return self._next() if token.text in texts and token.kind in ("symbol", "name") else None

    def _fail(self, message: str, position: int | None = None) -> _Failure:
        at = self._peek().position if position is None else position
        self._problems.append(Problem(at, f"Syntax error: {message}"))
        return _Failure()

    def _expect(self, text: str) -> Token:
        token = self._takes(text)
        if token is None:
            raise self._fail(f"mismatched input '{self._peek().text}' expecting '{text}'")
        return token

    def finish(self) -> None:
        token = self._peek()
        if token.kind == "end":
            return
        last = self._tokens[self._at + 1].kind == "end"
        raise self._fail(f"{'extraneous' if last else 'mismatched'} input '{token.text}' expecting <EOF>")

    def expression(self) -> Node:
        condition = self._or()
        question = self._takes("?")
        if question is None:
            return condition
        yes = self._or()
        self._expect(":")
        return Node("call", question.position, "_?_:_", (condition, yes, self.expression()))

    def _or(self) -> Node:
        return self._logical(self._and, "||")

    def _and(self) -> Node:
        return self._logical(self._relation, "&&")

    def _logical(self, inner: Callable[[], Node], symbol: str) -> Node:
        """Of many terms a balanced tree, as cel-go builds it: their number is no depth."""
        terms = [inner()]
        positions: list[int] = []
        while operator := self._takes(symbol):
            positions.append(operator.position)
            terms.append(inner())
        return _balanced(_OPERATORS[symbol], terms, positions)

    def _relation(self) -> Node:
        return self._chain(self._sum, *_RELATIONS)

    def _sum(self) -> Node:
        return self._chain(self._product, "+", "-")

    def _product(self) -> Node:
        return self._chain(self._unary, "*", "/", "%")

    def _chain(self, inner: Any, *symbols: str) -> Node:
        left: Node = inner()
        while operator := self._takes(*symbols):
            left = Node("call", operator.position, _OPERATORS[operator.text], (left, inner()))
        return left

    def _unary(self) -> Node:
        operator = self._takes("!", "-")
        if operator is None:
            return self._member(self._primary())
        inner = self._unary()
        if operator.text == "-" and inner.kind == "literal" and inner.value[0] in ("int", "double"):
            return Node("literal", operator.position, (inner.value[0], -inner.value[1]))
        return Node("call", operator.position, "!_" if operator.text == "!" else "-_", (inner,))

    def _member(self, node: Node) -> Node:
        while True:
            if dot := self._takes("."):
                optional = self._takes("?") is not None
                name = self._next()
                if name.kind == "name" and name.text in _WORDS:
                    self._at -= 1
                    raise self._fail(f"mismatched input '{name.text}' expecting IDENTIFIER", name.position)
                if name.kind == "escaped":
                    self._problems.append(Problem(name.position, "unsupported syntax: '`'"))
                elif name.kind != "name":
                    self._at -= 1
                    raise self._fail(f"no viable alternative at input '.{name.text}'", name.position)
                if name.kind == "name" and (opening := self._takes("(")):
                    arguments = self._list(")")
                    node = self._macro(node, name.text, arguments, opening.position)
                else:
                    node = Node("field", dot.position, name.text.strip("`"), target=node, optional=optional)
            elif opening := self._takes("["):
                optional = self._takes("?") is not None
                key = self.expression()
                self._expect("]")
                node = Node("index", opening.position, None, (key,), node, optional)
            elif (type_ := qualified_name(node)) and (opening := self._takes("{")):
                node = self._struct(type_, opening.position)
            else:
                return node

    def _list(self, closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        self._may_close = closing == ")"
        while self._takes(closing) is None:
            optional = self._takes("?") is not None
            item = self.expression()
            item.optional = item.optional or (optional and closing == "]")
            items.append(item)
            if self._takes(",") is None:
                self._expect(closing)
                break
        return tuple(items)

    def _primary(self) -> Node:
        token = self._peek()
        match token.kind:
            case "float" | "int" | "uint" | "string":
                self._next()
                kind = {"float": "double", "string": "bytes" if isinstance(token.value, bytes) else "string"}
                return Node("literal", token.position, (kind.get(token.kind, token.kind), token.value))
            case "name":
                return self._name()
            case "symbol":
                if opening := self._takes("("):
                    inner = self.expression()
                    self._expect(")")
                    return inner
                if opening := self._takes("["):
                    return Node("list", opening.position, None, self._list("]"))
                if opening := self._takes("{"):
                    return self._map(opening.position)
                if self._takes("."):
                    return self._name()
            case _:
                pass
        after_opening = self._may_close and self._at > 0 and self._tokens[self._at - 1].text == "("
        expected = _EXPECTED.format("')', " if after_opening else "")
        raise self._fail(f"mismatched input '{token.text}' expecting {expected}")

    def _struct(self, type_: str, position: int) -> Node:
        names: list[str] = []
        parts: list[Node] = []
        while self._takes("}") is None:
            optional = self._takes("?") is not None
            name = self._next()
            if name.kind not in ("name", "escaped"):
                self._at -= 1
                expected = "{'}', '?', ',', IDENTIFIER}"
                raise self._fail(f"mismatched input '{name.text}' expecting {expected}", name.position)
            names.append(name.text.strip("`"))
            self._expect(":")
            part = self.expression()
            part.optional = optional
            parts.append(part)
            if self._takes(",") is None:
                self._expect("}")
                break
        return Node("struct", position, (type_, tuple(names)), tuple(parts))

    def _map(self, position: int) -> Node:
        parts: list[Node] = []
        while self._takes("}") is None:
            optional = self._takes("?") is not None
            parts.append(self.expression())
            self._expect(":")
            parts.append(self.expression())
            parts[-1].optional = parts[-1].optional or optional
            if self._takes(",") is None:
                self._expect("}")
                break
        return Node("map", position, None, tuple(parts))

    def _name(self) -> Node:
        token = self._next()
        if token.kind != "name":
            self._at -= 1
            raise self._fail(f"mismatched input '{token.text}' expecting IDENTIFIER", token.position)
        if token.text in ("true", "false"):
            return Node("literal", token.position, ("bool", token.text == "true"))
        if token.text == "null":
            return Node("literal", token.position, ("null_type", None))
        if opening := self._takes("("):
            arguments = self._list(")")
            if token.text == "has" and len(arguments) == 1:
                return self._has(arguments[0], opening.position)
            return Node("call", opening.position, token.text, arguments)
        if token.text in RESERVED:
            raise self._fail(f"reserved identifier: {token.text}", token.position)
        return Node("name", token.position, token.text)

    def _has(self, inner: Node, position: int) -> Node:
        if inner.kind != "field":
            self._problems.append(Problem(inner.position, "invalid argument to has() macro"))
            raise _Failure
        return Node("has", position, inner.value, target=inner.target)

    def _macro(self, target: Node, name: str, arguments: tuple[Node, ...], position: int) -> Node:
        """Macros over collections become folds: (macro, names), with the expressions in which the names are known."""
        shapes = _MACROS.get(name, ())
        for names, bodies in shapes:
            if len(arguments) != names + bodies:
                continue
            if any(argument.kind != "name" for argument in arguments[:names]):
                if bodies == 1 and names == 2:
                    continue
                self._problems.append(Problem(arguments[0].position, "argument is not an identifier"))
                raise _Failure
            called = tuple(argument.value for argument in arguments[:names])
            return Node("fold", position, (name, called), arguments[names:], target)
        return Node("call", position, name, arguments, target)


_MACROS: Final = {
    "all": ((1, 1), (2, 1)),
    "exists": ((1, 1), (2, 1)),
    "exists_one": ((1, 1), (2, 1)),
    "existsOne": ((1, 1), (2, 1)),
    "filter": ((1, 1),),
    "map": ((1, 1), (1, 2)),
    "transformList": ((2, 1), (2, 2)),
    "transformMap": ((2, 1), (2, 2)),
    "transformMapEntry": ((2, 1), (2, 2)),
    "sortBy": ((1, 1),),
    "optMap": ((1, 1),),
    "optFlatMap": ((1, 1),),
}
"""How many names and how many expressions each macro takes."""
