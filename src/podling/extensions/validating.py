"""ValidatingAdmissionPolicy: rules in CEL that every matching write has to satisfy.

All policies are asked; the first refusal is told, and the warnings of all
(`k8s.io/apiserver/pkg/admission/plugin/policy/validating`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

from podling.api import meta
from podling.api.errors import ApiError, forbidden
from podling.api.resources import Write
from podling.api.served import Served
from podling.extensions.expressions import Views
from podling.extensions.matching import is_exempt
from podling.extensions.policies import Bound, Conditional, Invocation, Misconfigured, with_params
from podling.kinds.admissionregistration import expressions
from podling.kinds.validation.fields import entries, text
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.compiler import Program
    from podling.cel.values import Budget, EvaluationError

POLICIES: Final = "validatingadmissionpolicies.admissionregistration.k8s.io"
BINDINGS: Final = "validatingadmissionpolicybindings.admissionregistration.k8s.io"
_LONGEST_MESSAGE: Final = 5 << 10
"""Bytes of a message that an expression makes."""
_CODES: Final = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}


class Policy(Conditional):
    """A compiled policy."""

    def __init__(self, obj: Object) -> None:
        from podling.cel.compiler import compile_expression

        super().__init__(obj)
        words = expressions.without_authorizer(self.types)
        self.validations = [
            (
                validation,
                compile_expression(validation["expression"], self.types),
                compile_expression(message, words) if (message := text(validation, "messageExpression")) else None,
            )
            for validation in entries(self.spec, "validations")
        ]
        self.annotations = [
            (annotation["valueExpression"], compile_expression(annotation["valueExpression"], self.types))
            for annotation in entries(self.spec, "auditAnnotations")
        ]


class ValidatingPolicies:
    """The admission step: all policies that are bound, on every write."""

    def __init__(self, served: Served, views: Views) -> None:
        self.bound = Bound(served, Policy)
        self._views = views

    def __call__(self, write: Write) -> Awaitable[None] | None:
        return self._judge(write) if self.bound and not is_exempt(write) else None

    async def _judge(self, write: Write) -> None:
        refusals: list[ApiError] = []
        for invocation in self.bound.invocations(write):
            case = _Case(invocation, write, refusals)
            match invocation.policy:
                case Misconfigured() as problem:
                    case.misconfigured(str(problem))
                case str() as problem:
                    case.failed(problem)
                case policy:
                    await self._apply(invocation, policy, case, write)
        if refusals:
            raise refusals[0]

    async def _apply(self, invocation: Invocation[Policy], policy: Policy, case: _Case, write: Write) -> None:
        from podling.cel.values import EvaluationError

        assert invocation.binding is not None, "whoever can be asked is bound"
        try:
            found = self.bound.parameters(policy, invocation.binding, write)
        except Misconfigured as error:
            case.misconfigured(str(error))
            return
        given = await self._views.values(write, invocation.match)
        for params in found:
            own = with_params(policy, given, params)
            try:
                if not policy.holds(own):
                    continue
            except EvaluationError as error:
                case.failed(str(error))
                continue
            _judge_all(policy, case, own)


class _Case:
    """One policy with one binding, on one write."""

    def __init__(self, invocation: Invocation[Policy], write: Write, refusals: list[ApiError]) -> None:
        self._actions: list[str] = entries(meta.spec(invocation.binding or {}), "validationActions")
        self._write = write
        self._refusals = refusals
        self._fails = text(invocation.spec, "failurePolicy") != "Ignore"
        self._who = f"ValidatingAdmissionPolicy '{invocation.name}'"
        if invocation.binding is not None:
            self._who += f" with binding '{meta.name(invocation.binding)}'"

    def misconfigured(self, why: str) -> None:
        """The policy cannot be asked at all: a refusal, whatever the binding makes of violations."""
        if self._fails:
            self._refusals.append(self._refusal(why, "Invalid"))

    def failed(self, why: str) -> None:
        """The policy gave no answer: a violation, where it is not to be passed over."""
        if self._fails:
            self.violated(why, "Invalid")

    def violated(self, message: str, reason: str) -> None:
        if "Warn" in self._actions:
            self._write.warnings.append(f"Validation failed for {self._who}: {message}")
        if "Deny" in self._actions:
            self._refusals.append(self._refusal(message, reason))

    def _refusal(self, why: str, reason: str) -> ApiError:
        message = f"{self._who} denied request: {why}"
        resource = self._write.resource
        error = forbidden(resource.plural, resource.group, self._write.called, message)
        details = {**(error.details or {}), "causes": [{"message": message}]}
        return ApiError(_CODES.get(reason, 422), reason, error.message, details)


def _judge_all(policy: Policy, case: _Case, own: Object) -> None:
    from podling.cel.values import Budget, OutOfBudget, type_name

    budget = Budget()
    given = policy.with_variables(own, budget)
    try:
        verdicts = [_verdict(program, given, budget) for _, program, _ in policy.validations]
        again = Budget()
        told = policy.with_variables(own, again)
        annotations = [(source, _verdict(program, told, again)) for source, program in policy.annotations]
    except OutOfBudget as error:
        case.failed(str(error))
        return
    for (validation, _, message), verdict in zip(policy.validations, verdicts, strict=True):
        if isinstance(verdict, Exception):
            case.failed(f"expression '{validation['expression']}' resulted in error: {verdict}")
        elif verdict is not True:
            words = _message(validation, message, given, budget)
            case.violated(words, text(validation, "reason") or "Invalid")
    for source, value in annotations:
        if isinstance(value, Exception):
            case.misconfigured(f"expression '{source}' resulted in error: {value}")
        elif value is not None and not isinstance(value, str):
            words = "Return type must be either string or null."
            kind = type_name(value)
            case.misconfigured(f"valueExpression '{source}' resulted in unsupported return type: {kind}. {words}")


def _verdict(program: Program, given: Object, budget: Budget) -> Any | EvaluationError:
    """The value of an expression, or why it has none. Raises OutOfBudget."""
    from podling.cel.values import EvaluationError, OutOfBudget

    try:
        return program.run(given, budget)
    except OutOfBudget:
        raise
    except EvaluationError as error:
        return error


def _message(validation: Object, message: Program | None, given: Object, budget: Budget) -> str:
    from podling.cel.values import EvaluationError

    words = ""
    if message is not None:
        try:
            found: Any = message.run(given, budget)
            words = found.strip() if isinstance(found, str) else ""
            words = "" if "\n" in words or len(words.encode()) > _LONGEST_MESSAGE else words
        except EvaluationError:
            words = ""
    return words or text(validation, "message").strip() or f"failed expression: {validation['expression'].strip()}"
