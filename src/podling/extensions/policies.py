"""What validating and mutating admission policies have in common: bindings, parameters, conditions and variables.

A policy takes effect by its bindings, each with its own selection of requests and its own parameters; it is asked
once for each parameter (`k8s.io/apiserver/pkg/admission/plugin/policy/generic`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from podling.api import meta
from podling.api.resources import Resource, Write
from podling.api.served import Served
from podling.extensions.expressions import conditions_hold
from podling.extensions.matching import Match, matching
from podling.kinds.admissionregistration import expressions
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.compiler import Program
    from podling.cel.types import Type
    from podling.cel.values import Budget


class Misconfigured(Exception):
    """A policy or binding that cannot be applied; the text says why. It counts, whatever violations do."""


class Conditional:
    """The part of a compiled policy that all have. Raises `podling.cel.syntax.CompileError`."""

    def __init__(self, obj: Object) -> None:
        from podling.cel.compiler import compile_expression

        self.name = meta.name(obj)
        self.spec = part(obj, "spec")
        self.has_params = self.spec.get("paramKind") is not None
        known: dict[str, Type] = {}
        self._variables: list[tuple[str, Program]] = []
        for variable in entries(self.spec, "variables"):
            types = expressions.variable_types(params=self.has_params, variables=dict(known))
            program = compile_expression(variable["expression"], types, makes=self.makes)
            known[variable["name"]] = program.type
            self._variables.append((variable["name"], program))
        self.types: dict[str, Type] = expressions.variable_types(params=self.has_params, variables=known)

    makes = False
    """Whether its expressions may make objects."""

    def holds(self, given: Object) -> bool:
        """Whether the match conditions hold. Raises EvaluationError."""
        conditions: list[Any] = entries(self.spec, "matchConditions")
        return conditions_hold(conditions, given, params=self.has_params)

    def with_variables(self, given: Object, budget: Budget) -> Object:
        """The values with the policy's own variables, each computed when it is first asked for."""
        return {**given, "variables": _Variables(self._variables, given, budget)}


class _Variables(dict[str, Any]):
    def __init__(self, programs: Sequence[tuple[str, Program]], given: Object, budget: Budget) -> None:
        super().__init__()
        self._programs = dict(programs)
        self._values = {**given, "variables": self}
        self._budget = budget

    def __contains__(self, name: object) -> bool:
        return name in self._programs

    def __missing__(self, name: str) -> Any:
        value = self[name] = self._programs[name].run(self._values, self._budget)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self._programs else default


P = TypeVar("P", bound=Conditional)


class Invocation(NamedTuple, Generic[P]):
    """A policy and a binding of it that a write is for. A text is why the policy does not compile; of one that is
    misconfigured there is one invocation without a binding."""

    name: str
    policy: P | str | Misconfigured
    spec: Object
    binding: Object | None
    match: Match


class Bound(Generic[P]):
    """All policies of a kind, with their bindings."""

    def __init__(self, served: Served, make: Callable[[Object], P]) -> None:
        self._served = served
        self._make = make
        self._compiled: dict[str, P | str] = {}
        self._policies: dict[str, Object] = {}
        self._bindings: dict[str, Object] = {}

    def policy_changed(self, name: str, obj: Object | None) -> None:
        self._compiled.pop(name, None)
        _set(self._policies, name, obj)

    def binding_changed(self, name: str, obj: Object | None) -> None:
        _set(self._bindings, name, obj)

    def __bool__(self) -> bool:
        return bool(self._bindings)

    def invocations(self, write: Write) -> Iterator[Invocation[P]]:
        """What a write is for, in the order of names."""
        bindings: dict[str, list[Object]] = {}
        for _, binding in sorted(self._bindings.items()):
            bindings.setdefault(text(binding["spec"], "policyName"), []).append(binding)
        for name in sorted(bindings.keys() & self._policies.keys()):
            definition = self._policies[name]
            spec = part(definition, "spec")
            match = matching(part(spec, "matchConstraints"), "resourceRules", write, self._served)
            if match is None:
                continue
            if (unknown := self._unknown_params(spec)) is not None:
                yield Invocation(name, unknown, spec, None, match)
                continue
            for binding in bindings[name]:
                if self._binds(binding, write):
                    yield Invocation(name, self._policy(definition), spec, binding, match)

    def _unknown_params(self, spec: Object) -> Misconfigured | None:
        kind: Object | None = spec.get("paramKind")
        if kind is None or self._params(kind) is not None:
            return None
        group, _, version = cast(str, kind["apiVersion"]).rpartition("/")
        words = f"failed to find resource referenced by paramKind: '{group}/{version}, Kind={kind['kind']}'"
        return Misconfigured(f"failed to configure policy: {words}")

    def _params(self, kind: Object) -> Resource | None:
        """Where the parameters of a kind are."""
        wanted = (kind["apiVersion"], kind["kind"])
        return next((r for r in self._served.all() if (r.api_version, r.kind) == wanted), None)

    def _binds(self, binding: Object, write: Write) -> bool:
        resources: Object | None = binding["spec"].get("matchResources")
        if not resources:
            return True
        everything = [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}]
        rules = entries(resources, "resourceRules") or everything
        return matching({**resources, "resourceRules": rules}, "resourceRules", write, self._served) is not None

    def _policy(self, definition: Object) -> P | str:
        from podling.cel.syntax import CompileError

        name = meta.name(definition)
        found = self._compiled.get(name)
        if found is None:
            try:
                found = self._make(definition)
            except CompileError as error:
                found = f"compilation error: {error}"
            self._compiled[name] = found
        return found

    def parameters(self, policy: Conditional, binding: Object, write: Write) -> Sequence[Object | None]:
        """The objects that a binding takes its parameters from. Raises Misconfigured."""
        reference: Object | None = binding["spec"].get("paramRef")
        if not policy.has_params or reference is None:
            return [None]
        resource = self._params(policy.spec["paramKind"])
        if resource is None:
            return []  # gone since the write was matched
        namespace = text(reference, "namespace")
        if resource.namespaced and not (namespace or write.namespace):
            raise _unbound("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
        if namespace and not resource.namespaced:
            raise _unbound("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        place = (namespace or write.namespace) if resource.namespaced else ""
        found = _parameters(write, resource.group_resource, place, reference)
        if not found and reference.get("parameterNotFoundAction") == "Deny":
            raise _unbound("no params found for policy binding with `Deny` parameterNotFoundAction")
        return found


def _unbound(why: str) -> Misconfigured:
    return Misconfigured(f"failed to configure binding: {why}")


def _set(known: dict[str, Object], name: str, obj: Object | None) -> None:
    if obj is None:
        known.pop(name, None)
    else:
        known[name] = obj


def _parameters(write: Write, resource: str, namespace: str, reference: Object) -> Sequence[Object]:
    if name := text(reference, "name"):
        found = write.reader.get(resource, namespace, name)
        return [found] if found is not None else []
    selector = part(reference, "selector")
    objects = write.reader.list(resource, namespace or None)
    return [obj for obj in objects if meta.matches_selector(selector, meta.labels(obj))]


def with_params(policy: Conditional, given: Object, params: Object | None) -> Object:
    return {**given, "params": params} if policy.has_params else given
