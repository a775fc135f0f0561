"""The `authorizer` of admission expressions: may the user of a request, or a service account, do this as well?

(`k8s.io/apiserver/pkg/cel/library/authz.go`)
"""

# The functions of the table are one-line lambdas over values that the checker has typed already.
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from podling.api.errors import ApiError
from podling.api.requests import Attributes, Authorize, Decision
from podling.api.resources import User
from podling.api.selectors import parse_field_selector
from podling.cel.values import CelError, Opaque

_PACKAGE: Final = "kubernetes.authorization"
AUTHORIZER: Final = f"{_PACKAGE}.Authorizer"
RESOURCE_CHECK: Final = f"{_PACKAGE}.ResourceCheck"
_PATH_CHECK: Final = f"{_PACKAGE}.PathCheck"
_GROUP_CHECK: Final = f"{_PACKAGE}.GroupCheck"
_DECISION: Final = f"{_PACKAGE}.Decision"
CHECK_COST: Final = 350_000
"""A check may ask another server in a real cluster, so few of them fit into what an expression may cost."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of whom; the verb comes last."""

    authorize: Authorize
    user: User
    attributes: Attributes


def authorizer(authorize: Authorize, user: User) -> Opaque:
    """The value of the variable `authorizer`."""
    return Opaque(AUTHORIZER, _Asked(authorize, user, Attributes("")))


def resource_check(authorize: Authorize, user: User, attributes: Attributes) -> Opaque:
    """The value of `authorizer.requestResource`."""
    return Opaque(RESOURCE_CHECK, _Asked(authorize, user, attributes))


def _with(type_: str, given: Opaque, **fields: Any) -> Opaque:
    asked: _Asked = given.value
    return Opaque(type_, replace(asked, attributes=asked.attributes._replace(**fields)))


def _path(given: Opaque, path: str) -> Opaque:
    if not path.strip():
        raise CelError("path must not be empty")
    return _with(_PATH_CHECK, given, path=path)


def _resource(given: Opaque, name: str) -> Opaque:
    if not name.strip():
        raise CelError("resource must not be empty")
    return _with(RESOURCE_CHECK, given, resource=name, version="*")


def _selecting(given: Opaque, selector: str) -> Opaque:
    """A selector that cannot be read restricts nothing: that asks for more."""
    try:
        return _with(RESOURCE_CHECK, given, fields=parse_field_selector(selector))
    except ApiError:
        return given


def _check(given: Opaque, verb: str) -> Opaque:
    asked: _Asked = given.value
    return Opaque(_DECISION, asked.authorize(asked.user, asked.attributes._replace(verb=verb)))


def _refined(name: str) -> Callable[[Opaque, str], Opaque]:
    return lambda given, value: _with(RESOURCE_CHECK, given, **{name: value})


def _allowed(decision: Opaque) -> bool:
    outcome: Decision = decision.value
    return outcome.allowed


def _reason(decision: Opaque) -> str:
    outcome: Decision = decision.value
    return outcome.reason


def overloads(is_name: Callable[[str], bool], is_namespace: Callable[[str], bool]) -> Iterable[tuple[str, Any]]:
    """Signatures and what computes them. The two functions say what a service account and a namespace may be called."""

    def service_account(given: Opaque, namespace: str, name: str) -> Opaque:
        if not is_name(name):
            raise CelError("Invalid service account name")
        if not is_namespace(namespace):
            raise CelError("Invalid service account namespace")
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        asked: _Asked = given.value
        return Opaque(AUTHORIZER, replace(asked, user=User(f"system:serviceaccount:{namespace}:{name}", groups)))

    yield f"{AUTHORIZER}.path(string) {_PATH_CHECK}", _path
    yield f"{AUTHORIZER}.group(string) {_GROUP_CHECK}", lambda given, name: _with(_GROUP_CHECK, given, group=name)
    yield f"{AUTHORIZER}.serviceAccount(string, string) {AUTHORIZER}", service_account
    yield f"{_GROUP_CHECK}.resource(string) {RESOURCE_CHECK}", _resource
    for name in ("subresource", "namespace", "name"):
        yield f"{RESOURCE_CHECK}.{name}(string) {RESOURCE_CHECK}", _refined(name)
    yield f"{RESOURCE_CHECK}.fieldSelector(string) {RESOURCE_CHECK}", _selecting
    # Nobody decides by labels
    yield f"{RESOURCE_CHECK}.labelSelector(string) {RESOURCE_CHECK}", lambda given, _selector: given
    for checked in (_PATH_CHECK, RESOURCE_CHECK):
        yield f"{checked}.check(string) {_DECISION}", _check
    yield f"{_DECISION}.allowed() bool", _allowed
    yield f"{_DECISION}.reason() string", _reason
    yield f"{_DECISION}.errored() bool", lambda _decision: False
    yield f"{_DECISION}.error() string", lambda _decision: ""
