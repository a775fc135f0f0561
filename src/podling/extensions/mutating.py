"""MutatingAdmissionPolicy: changes in CEL that every matching write is given.

A mutation is an apply configuration, merged as server-side apply does but owned by nobody, or a JSON patch. The
policies go before webhooks, in the order of their names (`k8s.io/apiserver/pkg/admission/plugin/policy/mutating`).
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

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
        failures: list[str] = []
        rounds = write.reinvocation.begin(POLICIES, write.new)
        for invocation in self.bound.invocations(write):
            binding = meta.name(invocation.binding)
            for params, problem in self._cases(invocation, write):
                key = (invocation.name, binding, meta.namespace(params or {}), meta.name(params or {}))
                before, found = write.new, [problem] if problem else []
                if isinstance(invocation.policy, Policy) and not problem:
                    if write.reinvocation.skips(rounds, key):
                        continue
                    found = await self._apply(invocation, invocation.policy, write, params)
                    changed = write.new != before
                    write.reinvocation.asked(rounds, key, changed=changed, repeats=invocation.policy.repeats)
                if text(invocation.spec, "failurePolicy") != "Ignore":
                    who = f"policy '{invocation.name}' with binding '{binding}' denied request"
                    failures += [f"{who}: {why}" for why in found]
        rounds.output = write.new
        if failures:
            raise _refusal(write, failures)

    def _cases(self, invocation: Invocation[Policy], write: Write) -> Iterator[tuple[Object | None, str]]:
        """The parameters to apply a policy with; or why it cannot be."""
        if isinstance(invocation.policy, str):
            yield None, invocation.policy
            return
        try:
            found = self.bound.parameters(invocation.policy, invocation.binding, write)
        except Misconfigured as error:
            yield None, f"failed to configure binding: {error}"
            return
        for params in found:
            yield params, ""

    async def _apply(
        self, invocation: Invocation[Policy], policy: Policy, write: Write, params: Object | None
    ) -> list[str]:
        """Changes the write; gives what went wrong. A mutation that fails leaves the others."""
        from podling.cel.values import EvaluationError

        failures: list[str] = []
        given = with_params(policy, await self._views.values(write, invocation.match), params)
        try:
            if not policy.holds(given):
                return []
        except EvaluationError as error:
            return [str(error)]
        node = self._views.node(write, invocation.match)
        for kind, source, program in policy.mutations:
            try:
                new = _mutated(policy, kind, source, program, given, node)
            except Unmutated as error:
                failures.append(str(error))
                continue
            if new is not given["object"]:
                write.new = await self._views.changed(write, invocation.match, new)
                given = {**given, "object": (await self._views.objects(write, invocation.match))[0]}
        return failures


def _refusal(write: Write, failures: list[str]) -> ApiError:
    resource = write.resource
    error = forbidden(resource.plural, resource.group, write.name, failures[0])
    details = {**(error.details or {}), "causes": [{"message": failure} for failure in failures]}
    return ApiError(403, "Invalid", failures[0], details)


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
        return patch.json_patch(obj, [cast(Object, plain(operation)) for operation in operations])
    except patch.PatchTestFailed:
        return obj  # a test is the condition of a patch here
    except ApiError as error:
        raise Unmutated(f"JSONPath: {error.message}") from None


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
