"""Label and field selectors as they are written in a query: `a=b,c in (d,e),!f`.

The label grammar and its messages are those of k8s.io/apimachinery/pkg/labels; the field grammar (only `=`, `==` and
`!=`, with backslash escapes) that of k8s.io/apimachinery/pkg/fields. A bad selector raises `ApiError` 400.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from podling.api.errors import ApiError, bad_request
from podling.api.resources import Resource
from podling.store.types import Entry, Key

Labels = Mapping[str, str]

_SYMBOLS = "()!=<>,"
_OPERATOR_SYMBOLS = frozenset({"=", "==", "!=", ">", "<"})
_OPERATORS = frozenset({*_OPERATOR_SYMBOLS, "in", "notin"})
_SPACE = " \t\r\n"

_NAME = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_VALUE = re.compile(r"(?:(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_INTEGER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a label selector."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "=" | "==" | "in":
                return value is not None and value in self.values
            case "!=" | "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
            case _:
                return value is not None and self._compares(value)

    def _compares(self, value: str) -> bool:
        if not _INTEGER.fullmatch(value):
            return False
        limit = int(next(iter(self.values)))
        return int(value) > limit if self.operator == ">" else int(value) < limit


@dataclass(frozen=True, slots=True)
class LabelSelector:
    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        for requirement in self.requirements:  # noqa: SIM110  a generator takes half of the time of a long list
            if not requirement.matches(labels):
                return False
        return True


def parse_label_selector(text: str) -> LabelSelector:
    """Parses a `labelSelector` parameter. Raises `ApiError` 400 in Kubernetes' words."""
    return LabelSelector(tuple(_LabelParser(text).requirements()))


class _LabelParser:
    """Recursive descent over tokens, looking one token ahead."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._position = 0

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        if self._peek() == "":
            return found
        while True:
            token = self._peek()
            if not (_is_word(token) or token == "!"):
                _refuse(f"found '{token}', expected: !, identifier, or 'end of string'")
            found.append(self._requirement())
            token = self._next()
            if token == "":
                return found
            if token != ",":
                _refuse(f"found '{token}', expected: ',' or 'end of string'")
            following = self._peek()
            if not (_is_word(following) or following == "!"):
                _refuse(f"found '{following}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._next()
            return Requirement(_checked_key(self._next()), "!")
        key = _checked_key(self._next())
        if self._peek() in ("", ","):
            return Requirement(key, "exists")
        operator = self._next()
        if operator not in _OPERATORS:
            _refuse_term(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")
        values = self._set() if operator in ("in", "notin") else frozenset({self._exact_value()})
        return Requirement(key, operator, _checked_values(key, operator, values))

    def _exact_value(self) -> str:
        if self._peek() in ("", ","):
            return ""
        value = self._next()
        if not _is_word(value):
            _refuse_term(f"found '{value}', expected: identifier")
        return value

    def _set(self) -> frozenset[str]:
        opening = self._next()
        if opening != "(":
            _refuse_term(f"found '{opening}' expected: '('")
        token = self._peek()
        if not (_is_word(token) or token in (",", ")")):
            self._next()
            _refuse_term(f"found '{token}', expected: ',', ')' or identifier")
        values: set[str] = set()
        while True:
            token = self._next()
            if token == ")":
                return frozenset(values or {""})
            if token == ",":
                values |= {""} if self._peek() in (",", ")") or not values else set()
            elif _is_word(token):
                values.add(token)
                if self._peek() not in (",", ")"):
                    _refuse_term(f"found '{self._peek()}', expected: ',' or ')'")
            else:
                _refuse_term(f"found '{token}', expected: ',', or identifier")

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._position += 1
        return token


def _tokens(text: str) -> list[str]:
    """Words, brackets, commas and runs of operator symbols (`==`, `!=`)."""
    tokens: list[str] = []
    text = text.partition("\0")[0]  # Go's lexer takes a zero for the end
    at = 0
    while at < len(text):
        if text[at] in _SPACE:
            at += 1
            continue
        end = _end_of_token(text, at)
        tokens.append(text[at:end])
        at = end
    return tokens


def _end_of_token(text: str, start: int) -> int:
    if text[start] in _SYMBOLS:
        return start + 2 if text[start : start + 2] in ("==", "!=") else start + 1
    end = start
    while end < len(text) and text[end] not in _SPACE and text[end] not in _SYMBOLS:
        end += 1
    return end


def _is_word(token: str) -> bool:
    return token != "" and token[0] not in _SYMBOLS


def _refuse(message: str) -> NoReturn:
    raise bad_request(message)


def _refuse_term(message: str) -> NoReturn:
    raise bad_request(f"unable to parse requirement: {message}")


_NAME_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_PREFIX_RULE = (
    "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and "
    "must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_KEY_RULE = (
    "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. "
    "'example.com/MyName')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def _key_problem(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if "/" in prefix:
        return _KEY_RULE
    if slash and not prefix:
        return "prefix part must be non-empty"
    if prefix and not _SUBDOMAIN.fullmatch(prefix):
        return _PREFIX_RULE
    return "; ".join(_name_problems(name))


def _name_problems(name: str) -> Iterator[str]:
    if not name:
        yield "name part must be non-empty"
    if len(name) > 63:
        yield "name part must be no more than 63 bytes"
    if not _NAME.fullmatch(name):
        yield _NAME_RULE


def _checked_key(key: str) -> str:
    if not _is_word(key):
        _refuse_term(f"found '{key}', expected: identifier")
    if problem := _key_problem(key):
        _refuse_term(f'<nil>: Invalid value: "{key}": {problem}')
    return key


def _checked_values(key: str, operator: str, values: frozenset[str]) -> frozenset[str]:
    if operator in (">", "<") and not all(_INTEGER.fullmatch(value) for value in values):
        value = next(iter(values))
        _refuse_term(f"values[0]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer")
    for position, value in enumerate(sorted(values)):
        if len(value) > 63:
            _refuse_term(f'values[{position}][{key}]: Invalid value: "{value}": must be no more than 63 bytes')
        if not _VALUE.fullmatch(value):
            _refuse_term(f'values[{position}][{key}]: Invalid value: "{value}": {_VALUE_RULE}')
    return values


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One term of a field selector; `equal` is false for `!=`."""

    field: str
    value: str
    equal: bool


_FIELD_OPERATORS = ("!=", "==", "=")


def parse_field_selector(text: str) -> tuple[FieldTerm, ...]:
    """Parses a `fieldSelector` parameter. Raises `ApiError` 400 in Kubernetes' words."""
    return tuple(_field_term(part, text) for part in _split_terms(text) if part)


def _split_terms(text: str) -> list[str]:
    """At commas that no backslash precedes."""
    return re.split(r"(?<!\\),", text) if text else []


def _field_term(part: str, whole: str) -> FieldTerm:
    at = 0
    while at < len(part):
        if part[at] == "\\":
            at += 2
            continue
        for operator in _FIELD_OPERATORS:
            if part.startswith(operator, at):
                value = _unescape(part[at + len(operator) :])
                return FieldTerm(part[:at], value, operator != "!=")
        at += 1
    raise bad_request(f"invalid selector: '{whole}'; can't understand '{part}'")


def _unescape(value: str) -> str:
    found: list[str] = []
    characters = iter(value)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            if following not in ("\\", ",", "="):
                raise bad_request(f"invalid field selector: invalid escape sequence: \\{following}")
            found.append(following)
        elif character in ",=":
            raise bad_request(f"invalid field selector: unescaped character in: {value}")
        else:
            found.append(character)
    return "".join(found)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list or watch is restricted to."""

    labels: LabelSelector = LabelSelector()
    fields: tuple[FieldTerm, ...] = ()
    field_values: Mapping[str, Callable[[Entry], str]] | None = None

    @property
    def empty(self) -> bool:
        return not self.labels.requirements and not self.fields

    def matches(self, entry: Entry) -> bool:
        requirements = self.labels.requirements
        if requirements and not self.labels.matches(entry.labels):
            return False
        return all(self._field_matches(term, entry) for term in self.fields)

    def matches_key(self, key: Key) -> bool:
        """Whether name and namespace are right, which are the same in every version of an object."""
        values = {"metadata.name": key.name, "metadata.namespace": key.namespace}
        return all((values[t.field] == t.value) is t.equal for t in self.fields if t.field in values)

    def _field_matches(self, term: FieldTerm, entry: Entry) -> bool:
        match term.field:
            case "metadata.name":
                value = entry.key.name
            case "metadata.namespace":
                value = entry.key.namespace
            case field:
                assert self.field_values is not None
                value = self.field_values[field](entry)
        return (value == term.value) is term.equal

    def wanted(self, field: str) -> str | None:
        """The one value that `field` must have."""
        return next((term.value for term in self.fields if term.field == field and term.equal), None)


EVERYTHING = Selection()


def select(resource: Resource, label_selector: str, field_selector: str) -> Selection:
    """The selection that a request asks for. Raises `ApiError` 400."""
    if not label_selector and not field_selector:
        return EVERYTHING
    terms = parse_field_selector(field_selector)
    for term in terms:
        if not _is_selectable(resource, term.field):
            raise _not_selectable(resource, term.field)
    return Selection(parse_label_selector(label_selector), terms, _field_values(resource))


def _is_selectable(resource: Resource, field: str) -> bool:
    """Kinds that name their fields themselves name a namespace only where they have one."""
    if field == "metadata.namespace":
        return resource.namespaced or not _names_fields(resource)
    return field == "metadata.name" or field in resource.selectable


def _names_fields(resource: Resource) -> bool:
    return bool(resource.selectable) or resource.custom


def _not_selectable(resource: Resource, field: str) -> ApiError:
    """Kinds with selectable fields of their own have another message than those without."""
    if resource.group_resource == "jobs.batch":
        return bad_request(f'field label "{field}" not supported for Job')
    if _names_fields(resource):
        return bad_request(f"field label not supported: {field}")
    return bad_request(f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"')


def _field_values(resource: Resource) -> Mapping[str, Callable[[Entry], str]]:
    return {field: _reader(resource, function) for field, function in resource.selectable.items()}


def _reader(resource: Resource, function: Callable[..., str]) -> Callable[[Entry], str]:
    convert = resource.from_storage
    if convert is None:
        return lambda entry: function(entry.object)
    return lambda entry: function(convert(entry.object))


def format_requirements(requirements: Sequence[Requirement]) -> str:
    """A selector in its canonical writing (`labels.Selector.String`), as the scale subresource shows it."""
    return ",".join(_format(r) for r in sorted(requirements, key=lambda r: r.key))


def _format(requirement: Requirement) -> str:
    values = ",".join(sorted(requirement.values))
    match requirement.operator:
        case "exists":
            return requirement.key
        case "!":
            return f"!{requirement.key}"
        case "in" | "notin":
            return f"{requirement.key} {requirement.operator} ({values})"
        case operator:
            return f"{requirement.key}{operator}{values}"
