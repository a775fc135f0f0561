"""x-kubernetes-validations at work: the rules on the values of custom resources, in CEL.

A rule that speaks of `oldSelf` is asked only where there is an old value to compare with. What has not changed may
break a rule that came later: that is warned of, not refused
(`apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, required
from podling.api.gotext import quoted
from podling.kinds.apiextensions import fieldpaths
from podling.kinds.apiextensions.instances.values import MISSING, corresponding, json_equal
from podling.kinds.apiextensions.rules import VALIDATIONS, Rule, compile_rule, converter, declared_type
from podling.kinds.validation.fields import text
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.types import Type
    from podling.cel.values import Budget, EvaluationError

_ROOT: Final = "<nil>"
_MOST_WORDS: Final = 5 * 1024
"""Bytes of what a message expression may give."""
_NO_MORE: Final = "no further validation rules will be run"


def compile_rules(schema: Object, *, root: bool = True) -> Rules | None:
    """The rules of a schema and of what is in it; `None` where it has none."""
    return Rules.of(schema, root=root)


@dataclass(slots=True)
class _Asking:
    """One object's asking: what it may still cost, and the warnings."""

    budget: Budget
    warnings: list[str] = field(default_factory=list[str])
    ratchets: bool = True


class _Values(NamedTuple):
    """A value and where it is, with the old one there."""

    new: Any
    old: Any
    path: str
    same: bool
    """Whether it, or something around it that can be told from what it was, has not changed."""

    def below(self, new: Any, old: Any, path: str) -> _Values:
        return _Values(new, old, path, self.same or (old is not MISSING and json_equal(new, old)))


class Rules:
    """The rules of a place in the schema and of the places below it."""

    def __init__(
        self,
        schema: Object,
        rules: list[tuple[Rule, str]],
        fields: Mapping[str, Rules],
        element: Rules | None,
    ) -> None:
        self._schema = schema
        self._kind: str = schema.get("type") or ""
        self._rules = rules
        self._fields = fields
        self._element = element
        self._convert = converter(schema)

    @classmethod
    def of(cls, schema: Object, *, root: bool = False) -> Rules | None:
        declared: list[Object] = schema.get(VALIDATIONS) or []
        type_ = declared_type(schema, root=root) if declared else None
        compiled = list(_compiled(schema, declared, type_)) if type_ is not None else []
        properties = cast("dict[str, Object]", schema.get("properties") or {})
        fields = {name: rules for name, inner in properties.items() if (rules := cls.of(inner)) is not None}
        inner: Any = schema.get("items") or schema.get("additionalProperties")
        element = cls.of(cast(Object, inner)) if isinstance(inner, dict) else None
        return cls(schema, compiled, fields, element) if compiled or fields or element else None

    def problems(
        self,
        new: Any,
        old: Any,
        warnings: list[str] | None = None,
        path: str = "",
        *,
        budget: Budget | None = None,
        ratchets: bool = True,
    ) -> list[FieldError]:
        """`old` is `None` where there is no old value. What is only warned of is added to `warnings`; without
        `ratchets` nothing is."""
        from podling.cel.values import Budget

        before = MISSING if old is None else old
        asking = _Asking(budget or Budget())
        asking.ratchets = ratchets
        values = _Values(new, before, path, before is not MISSING and json_equal(new, before))
        errors: list[FieldError] = []
        with contextlib.suppress(_Ended):
            errors.extend(self._at(values, asking))
        if warnings is not None:
            warnings += asking.warnings
        return errors

    def _at(self, values: _Values, asking: _Asking) -> Iterator[FieldError]:
        """The problems of a value and of what is in it. Raises _Ended behind the last where asking takes too long."""
        value, old, path, _ = values
        if value is None:
            return
        if self._rules:
            yield from self._judged(values, asking)
        if isinstance(value, dict):
            before = cast(Object, old) if isinstance(old, dict) else {}
            declared = self._schema.get("properties") or ()
            for name, member in cast(Object, value).items():
                rules = self._fields.get(name) if name in declared else self._element
                if rules is not None:
                    at = f"{path}[{name}]" if rules is self._element else f"{path}.{name}" if path else name
                    yield from rules._at(values.below(member, before.get(name, MISSING), at), asking)
        elif isinstance(value, list) and self._element is not None:
            for index, (item, before) in enumerate(corresponding(self._schema, cast("list[Any]", value), old)):
                yield from self._element._at(values.below(item, before, f"{path}[{index}]"), asking)

    def _judged(self, values: _Values, asking: _Asking) -> Iterator[FieldError]:
        from podling.cel.values import CostExceeded, EvaluationError, Optional, OutOfBudget

        has_old = values.old is not MISSING and values.old is not None
        convert = self._convert or _same
        current = convert(values.new)
        before = convert(values.old) if has_old else None
        for rule, below in self._rules:
            if rule.transition and not has_old:
                continue
            optional = bool(rule.declared.get("optionalOldSelf"))
            old_self = (Optional(before, True) if has_old else Optional()) if optional else before
            variables = {"self": current, "oldSelf": old_self}
            try:
                if rule.program.run(variables, asking.budget) is True:
                    continue
            except EvaluationError as error:
                yield invalid_value(values.path or _ROOT, self._kind, _unanswered(rule, error))
                if isinstance(error, CostExceeded | OutOfBudget):
                    raise _Ended from None
                continue
            at = ".".join(filter(None, (values.path, below))) or _ROOT
            message, last = _message(rule, variables, asking.budget)
            refusal = invalid_value(at, self._kind, message) if last else self._refusal(rule, values.new, at, message)
            if asking.ratchets and values.same and "oldSelf" not in rule.program.names:
                asking.warnings.append(str(refusal))
            else:
                yield refusal
            if last:
                raise _Ended

    def _refusal(self, rule: Rule, value: Any, at: str, message: str) -> FieldError:
        whole = self._kind in ("object", "array")
        match rule.declared.get("reason"):
            case "FieldValueForbidden":
                return forbidden_field(at, message)
            case "FieldValueRequired":
                return required(at, message)
            case "FieldValueDuplicate":
                return FieldError("FieldValueDuplicate", at, "Duplicate value") if whole else duplicate(at, value)
            case _:
                if whole:
                    return FieldError("FieldValueInvalid", at, f"Invalid value: {message}")
                return invalid_value(at, value, message)


def _compiled(schema: Object, declared: list[Object], type_: Type) -> Iterator[tuple[Rule, str]]:
    """Each rule, and the field below the value that its refusals are about."""
    from podling.cel.syntax import CompileError

    for one in declared:
        below = ""
        with contextlib.suppress(fieldpaths.PathError):
            below = fieldpaths.follow(text(one, "fieldPath"), schema).path
        # A rule that does not compile was refused with the definition; one from before our time is passed over.
        with contextlib.suppress(CompileError):
            yield compile_rule(one, type_), below


class _Ended(Exception):
    """No more rules are asked: together they have taken too long."""


def _unanswered(rule: Rule, error: EvaluationError) -> str:
    from podling.cel.values import CostExceeded, OutOfBudget

    if isinstance(error, OutOfBudget):
        return str(error)
    shown = (text(rule.declared, "message") or rule.declared["rule"]).strip()
    if isinstance(error, CostExceeded):
        return f"'{error}': {_NO_MORE} due to call cost exceeds limit for rule: {shown}"
    if str(error).startswith("no such overload"):
        words = "call arguments did not match a supported operator, function or macro signature for rule"
        return f"'{error}': {words}: {shown}"
    return f"{error} evaluating rule: {shown}"


def _same(value: Any) -> Any:
    return value


def _message(rule: Rule, variables: Object, budget: Budget) -> tuple[str, bool]:
    """What is said of a value that breaks a rule, and whether nothing more is asked."""
    from podling.cel.values import CostExceeded, EvaluationError, OutOfBudget

    fallback = text(rule.declared, "message").strip() or f"failed rule: {rule.declared['rule'].strip()}"
    if rule.message is None:
        return fallback, False
    try:
        made = rule.message.run(variables, budget)
    except OutOfBudget:
        return f"messageExpression evaluation failed due to running out of cost budget, {_NO_MORE}", True
    except CostExceeded:
        source = quoted(rule.declared["messageExpression"])
        return f"{_NO_MORE} due to call cost exceeds limit for messageExpression: {source}", True
    except EvaluationError:
        return fallback, False
    message = made.strip() if isinstance(made, str) else ""  # an expression of type `dyn` gives what it likes
    usable = message and "\n" not in message and len(message.encode()) <= _MOST_WORDS
    return (message if usable else fallback), False
