"""x-kubernetes-validations at work: the rules on the values of custom resources, in CEL.

A rule that speaks of `oldSelf` is asked only where there is an old value to compare with; a value that has not changed
is not judged anew (`apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, required
from podling.extensions.values import MISSING, corresponding
from podling.kinds.apiextensions.rules import VALIDATIONS, Rule, compile_rule, converter, declared_type, field_steps
from podling.kinds.validation.fields import text
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.values import Budget, EvaluationError

_ROOT: Final = "<nil>"


def compile_rules(schema: Object) -> Rules | None:
    """The rules of a schema and of what is in it; `None` where it has none."""
    return Rules.of(schema, root=True)


class Rules:
    """The rules of a place in the schema and of the places below it."""

    def __init__(
        self,
        schema: Object,
        rules: list[Rule],
        fields: Mapping[str, Rules],
        element: Rules | None,
    ) -> None:
        self._schema = schema
        self._rules = rules
        self._fields = fields
        self._element = element
        self._convert = converter(schema)

    @classmethod
    def of(cls, schema: Object, *, root: bool = False) -> Rules | None:
        from podling.cel.syntax import CompileError

        compiled: list[Rule] = []
        for declared in cast("list[Object]", schema.get(VALIDATIONS) or []):
            try:
                compiled.append(compile_rule(declared, declared_type(schema, root=root)))
            except CompileError:
                continue  # refused when the definition was written; one from before our time is passed over
        properties = cast("dict[str, Object]", schema.get("properties") or {})
        fields = {name: rules for name, field in properties.items() if (rules := cls.of(field)) is not None}
        inner: Any = schema.get("items") or schema.get("additionalProperties")
        element = cls.of(cast(Object, inner)) if isinstance(inner, dict) else None
        return cls(schema, compiled, fields, element) if compiled or fields or element else None

    def problems(self, new: Object, old: Object | None) -> list[FieldError]:
        from podling.cel.values import Budget

        errors: list[FieldError] = []
        with contextlib.suppress(_Ended):
            errors.extend(self._at(new, MISSING if old is None else old, "", Budget()))
        return errors

    def _at(self, value: Any, old: Any, path: str, budget: Budget) -> Iterator[FieldError]:
        """The problems of a value and of what is in it. Raises _Ended behind the last where asking takes too long."""
        if value is None:
            return
        if self._rules:
            yield from self._judged(value, old, path, budget)
        if isinstance(value, dict):
            before = cast(Object, old) if isinstance(old, dict) else {}
            prefix = f"{path}." if path else ""
            declared = self._schema.get("properties") or ()
            for name, member in cast(Object, value).items():
                rules = self._fields.get(name) if name in declared else self._element
                if rules is not None:
                    yield from rules._at(member, before.get(name, MISSING), prefix + name, budget)
        elif isinstance(value, list) and self._element is not None:
            for index, (item, before) in enumerate(corresponding(self._schema, cast("list[Any]", value), old)):
                yield from self._element._at(item, before, f"{path}[{index}]", budget)

    def _judged(self, value: Any, old: Any, path: str, budget: Budget) -> Iterator[FieldError]:
        same = old is not MISSING and old == value
        has_old = old is not MISSING and old is not None
        asked = [rule for rule in self._rules if (has_old if rule.transition else not same)]
        if not asked:
            return
        convert = self._convert or _same
        current = convert(value)
        before = convert(old) if has_old else None
        for rule in asked:
            yield from self._verdict(rule, value, current, before, has_old, path, budget)

    def _verdict(
        self, rule: Rule, value: Any, current: Any, before: Any, has_old: bool, path: str, budget: Budget
    ) -> Iterator[FieldError]:
        from podling.cel.values import CostExceeded, EvaluationError, Optional, OutOfBudget

        optional = bool(rule.declared.get("optionalOldSelf"))
        old_self = (Optional(before, True) if has_old else Optional()) if optional else before
        variables = {"self": current, "oldSelf": old_self}
        try:
            if rule.program.run(variables, budget) is not True:
                yield _refusal(rule, value, path, _message(rule, variables, budget))
        except EvaluationError as error:
            yield invalid_value(path or _ROOT, self._schema.get("type") or "", _unanswered(rule, error))
            if isinstance(error, CostExceeded | OutOfBudget):
                raise _Ended from None


class _Ended(Exception):
    """No more rules are asked: together they have taken too long."""


def _unanswered(rule: Rule, error: EvaluationError) -> str:
    from podling.cel.values import CostExceeded, OutOfBudget

    if isinstance(error, OutOfBudget):
        return str(error)
    shown = text(rule.declared, "message") or rule.declared["rule"].strip()
    if isinstance(error, CostExceeded):
        words = "no further validation rules will be run due to call cost exceeding limit for rule"
        return f"'{error}': {words}: {shown}"
    if str(error).startswith("no such overload"):
        words = "call arguments did not match a supported operator, function or macro signature for rule"
        return f"'{error}': {words}: {shown}"
    return f"{error} evaluating rule: {shown}"


def _same(value: Any) -> Any:
    return value


def _message(rule: Rule, variables: Object, budget: Budget) -> str:
    from podling.cel.values import EvaluationError

    fallback = text(rule.declared, "message") or f"failed rule: {rule.declared['rule'].strip()}"
    if rule.message is None:
        return fallback
    try:
        message: Any = rule.message.run(variables, budget)
    except EvaluationError:
        return fallback
    usable = isinstance(message, str) and message.strip() and "\n" not in message.strip()
    return cast(str, message).strip() if usable else fallback


def _refusal(rule: Rule, value: Any, path: str, message: str) -> FieldError:
    steps = field_steps(text(rule.declared, "fieldPath")) or []
    at = ".".join(filter(None, (path, *steps))) or _ROOT
    match rule.declared.get("reason"):
        case "FieldValueForbidden":
            return forbidden_field(at, message)
        case "FieldValueRequired":
            return required(at, message)
        case "FieldValueDuplicate":
            return duplicate(at, value)
        case _:
            if isinstance(value, dict | list):
                return FieldError("FieldValueInvalid", at, f"Invalid value: {message}")
            return invalid_value(at, value, message)
