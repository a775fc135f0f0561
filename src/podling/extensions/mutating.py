"""MutatingAdmissionPolicy: changes in CEL that every matching write is given.

A mutation is an apply configuration, merged as server-side apply does but owned by nobody, or a JSON patch. The
policies go before webhooks, in the order of their names (`k8s.io/apiserver/pkg/admission/plugin/policy/mutating`).
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Hashable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from podling.api import field_sets, meta, patch
from podling.api.errors import ApiError, forbidden
from podling.api.resources import Write
from podling.api.schema import Node
from podling.api.served import Served
from podling.extensions.expressions import Views
from podling.extensions.matching import is_exempt
from podling.extensions.policies import Bound, Conditional, Invocation, Misconfigured, with_params
from podling.kinds.admissionregistration.mutatingadmissionpolicy import GIVES
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.compiler import Program

POLICIES: Final = "mutatingadmissionpolicies.admissionregistration.k8s.io"
BINDINGS: Final = "mutatingadmissionpolicybindings.admissionregistration.k8s.io"


class Policy(Conditional):
    """A compiled policy."""

    makes = True

    def __init__(self, obj: Object) -> None:
        from podling.cel.compiler import compile_expression

        super().__init__(obj)
        self.mutations: list[tuple[str, str, Program]] = []
        for mutation in entries(self.spec, "mutations"):
            kind = text(mutation, "patchType")
            source = text(part(mutation, GIVES[kind][0]), "expression")
            self.mutations.append((kind, source, compile_expression(source, self.types, makes=True)))

    @property
    def repeats(self) -> bool:
        return text(self.spec, "reinvocationPolicy") == "IfNeeded"


class Unmutated(Exception):
    """A mutation that could not be made; the text says why."""


class MutatingPolicies:
    """The admission step: all policies that are bound, on every write."""

    def __init__(self, served: Served, views: Views) -> None:
        self.bound = Bound(served, Policy)
        self._views = views

    def __call__(self, write: Write) -> Awaitable[None] | None:
        concerned = self.bound and write.operation != "DELETE" and not is_exempt(write)
        return self._mutate(write) if concerned else None

    async def _mutate(self, write: Write) -> None:
        """What a write is for is decided by the object as it came, not by what an earlier policy made of it."""
        failures: list[_Failure] = []
        rounds = write.reinvocation.begin(POLICIES, write.new)
        for case in list(self._cases(write, failures)):
            if write.reinvocation.skips(rounds, case.key):
                continue
            before = write.new
            failures += [case.failure(why, "Invalid") for why in await self._apply(case, write)]
            write.reinvocation.asked(rounds, case.key, changed=write.new != before, repeats=case.policy.repeats)
        rounds.output = write.new
        counted = [failure for failure in failures if text(failure.spec, "failurePolicy") != "Ignore"]
        if counted:
            raise _refusal(write, counted)

    def _cases(self, write: Write, failures: list[_Failure]) -> Iterator[_Case]:
        """Policies with their bindings and parameters; what cannot be applied is added to the failures."""
        for invocation in self.bound.invocations(write):
            name, spec, binding = invocation.name, invocation.spec, invocation.binding
            if isinstance(invocation.policy, Misconfigured):
                failures.append(_Failure(spec, f'policy "{name}" denied request: {invocation.policy}', "Forbidden"))
            elif binding is not None:
                yield from self._with_parameters(invocation, binding, write, failures)

    def _with_parameters(
        self, invocation: Invocation[Policy], binding: Object, write: Write, failures: list[_Failure]
    ) -> Iterator[_Case]:
        who = f"policy '{invocation.name}' with binding '{meta.name(binding)}' denied request"
        policy = invocation.policy
        if not isinstance(policy, Policy):
            failures.append(_Failure(invocation.spec, f"{who}: {policy}", "Invalid"))
            return
        try:
            found = self.bound.parameters(policy, binding, write)
        except Misconfigured as error:
            failures.append(_Failure(invocation.spec, f"{who}: {error}", "Forbidden"))
            return
        for params in found:
            yield _Case(policy, meta.name(binding), invocation, params)

    async def _apply(self, case: _Case, write: Write) -> list[str]:
        """Changes the write; gives what went wrong. A mutation that fails leaves the others."""
        from podling.cel.values import EvaluationError

        failures: list[str] = []
        policy, match = case.policy, case.invocation.match
        given = with_params(policy, await self._views.values(write, match), case.params)
        try:
            if not policy.holds(given):
                return []
        except EvaluationError as error:
            return [str(error)]
        node = self._views.node(write, match)
        for kind, source, program in policy.mutations:
            try:
                new = _mutated(policy, kind, source, program, given, node)
            except Unmutated as error:
                failures.append(str(error))
                continue
            if new is not given["object"]:
                write.new = await self._views.changed(write, match, new)
                given = {**given, "object": (await self._views.objects(write, match))[0]}
        return failures


class _Failure(NamedTuple):
    spec: Object
    """Of the policy."""
    message: str
    reason: str


class _Case(NamedTuple):
    """One policy with one binding and one object of parameters."""

    policy: Policy
    binding: str
    invocation: Invocation[Policy]
    params: Object | None

    @property
    def key(self) -> Hashable:
        params = self.params or {}
        return self.invocation.name, self.binding, meta.namespace(params), meta.name(params)

    def failure(self, why: str, reason: str) -> _Failure:
        who = f"policy '{self.invocation.name}' with binding '{self.binding}' denied request"
        return _Failure(self.invocation.spec, f"{who}: {why}", reason)


def _refusal(write: Write, failures: list[_Failure]) -> ApiError:
    """The first failure is told, and all of them are among the causes."""
    resource, first = write.resource, failures[0]
    error = forbidden(resource.plural, resource.group, write.called, first.message)
    details = {**(error.details or {}), "causes": [{"message": failure.message} for failure in failures]}
    return ApiError(error.code, first.reason, first.message, details)


def _mutated(policy: Policy, kind: str, source: str, program: Program, given: Object, node: Node) -> Object:
    """Raises Unmutated."""
    from podling.cel.values import Budget, EvaluationError

    budget = Budget()
    try:
        value = program.run(policy.with_variables(given, budget), budget)
    except EvaluationError as error:
        raise Unmutated(f"expression '{source}' resulted in error: {error}") from None
    return _patched(given["object"], value) if kind == "JSONPatch" else _applied(given["object"], value, node)


def _patched(obj: Object, made: Any) -> Object:
    """The compiler checks what an expression gives, but where that is `dyn` only its value tells."""
    from podling.cel.values import Struct

    wanted = "type mismatch: JSONPatchType.expression should evaluate to array"
    if not isinstance(made, list):
        raise Unmutated(wanted)
    operations = cast("list[Any]", made)
    for operation in operations:
        if not isinstance(operation, Struct) or operation.type != "JSONPatch":
            raise Unmutated(f"{wanted} of JSONPatch")
        value = operation.get("value")
        _check_names(value, getattr(value, "type", ""))
    try:
        return patch.patched(obj, [cast(Object, plain(operation)) for operation in operations])
    except patch.PatchTestFailed:
        return obj  # a test is the condition of a patch here
    except patch.PatchFailed as error:
        raise Unmutated(f"JSON Patch: {error.why}") from None


def _applied(obj: Object, made: Any, node: Node) -> Object:
    from podling.cel.values import Struct, type_name

    if not isinstance(made, Struct):
        raise Unmutated(f"unsupported return type from ApplyConfiguration expression: {type_name(made)}")
    _check_names(made, "Object")
    config = {**cast(Object, plain(made)), "apiVersion": obj["apiVersion"], "kind": obj["kind"]}
    wrong = field_sets.problems(config, node)
    if wrong:
        shown = wrong[0] if len(wrong) == 1 else "\n  ".join(["errors:", *wrong])
        raise Unmutated(f"error applying patch: failed to convert patch object to typed object: {shown}")
    if atomic := field_sets.atomic_parts(config, node):
        words = f"may not mutate atomic arrays, maps or structs: {', '.join(atomic)}"
        raise Unmutated(f"error applying patch: invalid ApplyConfiguration: {words}")
    return cast(Object, field_sets.merge(obj, config, node))


def _check_names(value: Any, path: str) -> None:
    """The type of what is made says where it belongs: `Object.spec` under `spec`. Raises Unmutated."""
    from podling.cel.values import Struct

    if isinstance(value, Struct):
        if value.type != path:
            words = "which matches field name path from root Object type"
            raise Unmutated(f'type mismatch: unexpected type name "{value.type}", expected "{path}", {words}')
        for name, member in value.items():
            _check_names(member, f"{path}.{name}")
    elif isinstance(value, dict):
        for member in cast("dict[Any, Any]", value).values():
            _check_names(member, path)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            _check_names(item, path)


def plain(value: Any) -> Any:
    """A value of CEL as JSON."""
    from podling.cel.values import to_string

    match value:
        case dict():
            return {str(key): plain(member) for key, member in cast("dict[Any, Any]", value).items()}
        case list():
            return [plain(item) for item in cast("list[Any]", value)]
        case bytes():
            return base64.b64encode(value).decode()
        case datetime() | timedelta():
            return to_string(value)
        case None | bool() | int() | float() | str():
            return value
        case _:
            return to_string(value)
