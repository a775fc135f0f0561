"""ValidatingAdmissionPolicy: rules in CEL that every matching write has to satisfy.

A policy takes effect by its bindings, each with its own selection of requests, parameters and actions
(`k8s.io/apiserver/pkg/admission/plugin/policy/validating`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from podling.api import meta
from podling.api.errors import ApiError, forbidden
from podling.api.resources import Write
from podling.api.served import Served
from podling.extensions.expressions import conditions_hold, values
from podling.extensions.matching import Match, is_exempt, matching
from podling.kinds.admissionregistration import expressions
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

if TYPE_CHECKING:
    from podling.cel.compiler import Program

POLICIES: Final = "validatingadmissionpolicies.admissionregistration.k8s.io"
BINDINGS: Final = "validatingadmissionpolicybindings.admissionregistration.k8s.io"
_CODES: Final = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}


class Policy:
    """A compiled policy. What does not compile fails when it is asked, as its failure policy says."""

    def __init__(self, obj: Object) -> None:
        from podling.cel.compiler import compile_expression
        from podling.cel.types import Type

        self.name = meta.name(obj)
        self.spec = part(obj, "spec")
        self.has_params = self.spec.get("paramKind") is not None
        known: dict[str, Type] = {}
        self._variables: list[tuple[str, Program]] = []
        for variable in entries(self.spec, "variables"):
            types = expressions.variable_types(params=self.has_params, variables=dict(known))
            program = compile_expression(variable["expression"], types)
            known[variable["name"]] = program.type
            self._variables.append((variable["name"], program))
        types = expressions.variable_types(params=self.has_params, variables=known)
        self.validations = [
            (
                validation,
                compile_expression(validation["expression"], types),
                compile_expression(message, types) if (message := text(validation, "messageExpression")) else None,
            )
            for validation in entries(self.spec, "validations")
        ]

    def variables(self, given: Object) -> Mapping[str, Any]:
        """The policy's own variables, each computed when it is first asked for."""
        return _Variables(self._variables, given)


class _Variables(dict[str, Any]):
    def __init__(self, programs: Sequence[tuple[str, Program]], given: Object) -> None:
        super().__init__()
        self._programs = dict(programs)
        self._values = {**given, "variables": self}

    def __contains__(self, name: object) -> bool:
        return name in self._programs

    def __missing__(self, name: str) -> Any:
        value = self[name] = self._programs[name].run(self._values)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self._programs else default


class Policies:
    """The admission step: all policies that are bound, on every write."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._policies: dict[str, Policy | str] = {}
        """By name; a text is why the policy does not compile."""
        self._specs: dict[str, Object] = {}
        self._bindings: dict[str, Object] = {}

    def policy_changed(self, name: str, obj: Object | None) -> None:
        self._policies.pop(name, None)
        if obj is None:
            self._specs.pop(name, None)
        else:
            self._specs[name] = obj

    def binding_changed(self, name: str, obj: Object | None) -> None:
        if obj is None:
            self._bindings.pop(name, None)
        else:
            self._bindings[name] = obj

    def __call__(self, write: Write) -> None:
        if self._bindings and not is_exempt(write):
            self._judge(write)

    def _judge(self, write: Write) -> None:
        for binding in self._bindings.values():
            definition = self._specs.get(text(binding["spec"], "policyName"))
            if definition is None:
                continue
            match = matching(part(definition, "spec", "matchConstraints"), "resourceRules", write, self._served)
            if match is None or not self._bound(binding, write):
                continue
            self._apply(definition, binding, write, match)

    def _bound(self, binding: Object, write: Write) -> bool:
        resources: Object | None = binding["spec"].get("matchResources")
        if not resources:
            return True
        everything = [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}]
        rules = entries(resources, "resourceRules") or everything
        return matching({**resources, "resourceRules": rules}, "resourceRules", write, self._served) is not None

    def _compiled(self, definition: Object) -> Policy | str:
        from podling.cel.syntax import CompileError

        name = meta.name(definition)
        found = self._policies.get(name)
        if found is None:
            try:
                found = Policy(definition)
            except CompileError as error:
                found = f"compilation error: {error}"
            self._policies[name] = found
        return found

    def _apply(self, definition: Object, binding: Object, write: Write, match: Match) -> None:
        from podling.cel.values import CelError

        policy = self._compiled(definition)
        fails = text(part(definition, "spec"), "failurePolicy") != "Ignore"
        case = _Case(meta.name(definition), binding, write, fails)
        if isinstance(policy, str):
            case.failed(policy)
            return
        given = values(write, match)
        for params in self._params(policy, case, write):
            own = {**given, "params": params} if policy.has_params else given
            try:
                conditions: list[Any] = entries(policy.spec, "matchConditions")
                if not conditions_hold(conditions, own, params=policy.has_params):
                    continue
            except CelError as error:
                case.failed(f"failed to evaluate match conditions: {error}")
                continue
            _judge_all(policy, case, {**own, "variables": policy.variables(own)})

    def _params(self, policy: Policy, case: _Case, write: Write) -> list[Object | None]:
        """The objects that a binding takes its parameters from; the policy is applied once for each."""
        reference: Object | None = case.binding["spec"].get("paramRef")
        if not policy.has_params or reference is None:
            return [None]
        kind = policy.spec["paramKind"]
        group, _, version = cast(str, kind["apiVersion"]).rpartition("/")
        resource = next(
            (r for r in self._served.all() if (r.group, r.version, r.kind) == (group, version, kind["kind"])), None
        )
        if resource is None:
            case.failed(f"failed to find resource referenced by paramKind: '{kind['apiVersion']}, Kind={kind['kind']}'")
            return []
        namespace = text(reference, "namespace") or meta.namespace(write.new) if resource.namespaced else ""
        found = _parameters(write, resource.group_resource, namespace, reference)
        if not found and reference.get("parameterNotFoundAction") != "Allow":
            case.failed("no params found for policy binding with `Deny` parameterNotFoundAction")
        return [*found]


def _parameters(write: Write, resource: str, namespace: str, reference: Object) -> Sequence[Object]:
    if name := text(reference, "name"):
        found = write.reader.get(resource, namespace, name)
        return [found] if found is not None else []
    selector = part(reference, "selector")
    objects = write.reader.list(resource, namespace or None)
    return [obj for obj in objects if meta.matches_selector(selector, meta.labels(obj))]


class _Case:
    """One policy with one binding, on one write."""

    def __init__(self, policy: str, binding: Object, write: Write, fails: bool) -> None:
        self.policy = policy
        self.binding = binding
        self.write = write
        self._fails = fails
        self._who = f"ValidatingAdmissionPolicy '{policy}' with binding '{meta.name(binding)}'"

    def failed(self, why: str) -> None:
        """The policy could not be asked: a refusal, where it is not to be passed over."""
        if self._fails:
            self.violated(why, "Invalid")

    def violated(self, message: str, reason: str) -> None:
        actions: list[str] = entries(self.binding["spec"], "validationActions")
        if "Warn" in actions:
            self.write.warnings.append(f"Validation failed for {self._who}: {message}")
        if "Deny" in actions:
            raise self._refusal(f"{self._who} denied request: {message}", reason)

    def _refusal(self, message: str, reason: str) -> ApiError:
        resource = self.write.resource
        error = forbidden(resource.plural, resource.group, meta.name(self.write.new), message)
        details = {**(error.details or {}), "causes": [{"message": message}]}
        return ApiError(_CODES.get(reason, 422), reason, error.message, details)


def _judge_all(policy: Policy, case: _Case, given: Object) -> None:
    from podling.cel.values import CelError

    for validation, program, message in policy.validations:
        try:
            verdict = program.run(given)
        except CelError as error:
            case.failed(f"expression '{validation['expression']}' resulted in error: {error}")
            continue
        if verdict is not True:
            case.violated(_message(validation, message, given), text(validation, "reason") or "Invalid")


def _message(validation: Object, message: Program | None, given: Object) -> str:
    from podling.cel.values import CelError

    words = ""
    if message is not None:
        try:
            found: Any = message.run(given)
            words = found.strip() if isinstance(found, str) and "\n" not in found.strip() else ""
        except CelError:
            words = ""
    return words or text(validation, "message").strip() or f"failed expression: {validation['expression'].strip()}"
