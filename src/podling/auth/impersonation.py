"""Speaking for somebody else: the `Impersonate-*` headers, and who may.

Constrained impersonation (KEP-5284) is asked first: the right to be that identity (`impersonate:user-info` and its
kin) together with the right to do just this request as another (`impersonate-on:user-info:list` on pods). Where it
is not granted the older, unlimited verb `impersonate` still counts; a refusal speaks of the newer ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import orjson

from podling.api.errors import ApiError, bad_request
from podling.api.requests import Attributes, Authorize, forbidden_request
from podling.api.resources import User
from podling.auth.identities import (
    ANONYMOUS,
    AUTHENTICATED,
    MASTERS,
    NODE_PREFIX,
    NODES,
    UNAUTHENTICATED,
    service_account_of,
    service_account_user,
)
from podling.auth.rbac import joined
from podling.kinds.validation import fields, names

PREFIX = b"impersonate-"
EXTRA_PREFIX = b"impersonate-extra-"
GROUP = "authentication.k8s.io"
NODE_NAME = "authentication.kubernetes.io/node-name"
"""The extra of a pod's token that tells on which node the pod runs."""

Extra = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whom a request speaks for, as its headers say."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Extra | None = None

    @property
    def only_named(self) -> bool:
        return not (self.groups or self.uid or self.extra)


def wanted(headers: Mapping[bytes, bytes]) -> Wanted | None:
    """`None` where a request speaks for nobody else. Raises 400 where it does not say for whom."""
    for name in headers:
        if name.startswith(PREFIX):
            return _wanted(headers)
    return None


def _wanted(headers: Mapping[bytes, bytes]) -> Wanted | None:
    extra = {
        unquote(name[len(EXTRA_PREFIX) :].decode("latin-1")): _values(value)
        for name, value in headers.items()
        if name.startswith(EXTRA_PREFIX)
    }
    found = Wanted(
        headers.get(b"impersonate-user", b"").decode("latin-1"),
        _values(headers.get(b"impersonate-group")),
        headers.get(b"impersonate-uid", b"").decode("latin-1"),
        extra or None,
    )
    if found.name:
        return found
    if found.only_named:
        return None
    raise bad_request(f"requested {_in_go(found)} without impersonating a user name")


def _values(joined: bytes | None) -> tuple[str, ...]:
    """Repeated headers come joined by a comma and a blank; a value may hold commas itself."""
    return () if joined is None else tuple(part.strip() for part in joined.decode("latin-1").split(", "))


def _in_go(user: Wanted) -> str:
    """`%#v` of a `user.DefaultInfo`."""
    groups = f"[]string{{{_strings(user.groups)}}}" if user.groups else "[]string(nil)"
    extra = "map[string][]string(nil)"
    if user.extra:
        pairs = (f"{_string(key)}:[]string{{{_strings(user.extra[key])}}}" for key in sorted(user.extra))
        extra = f"map[string][]string{{{', '.join(pairs)}}}"
    return f"&user.DefaultInfo{{Name:{_string(user.name)}, UID:{_string(user.uid)}, Groups:{groups}, Extra:{extra}}}"


def _string(text: str) -> str:
    return orjson.dumps(text).decode()


def _strings(texts: tuple[str, ...]) -> str:
    return ", ".join(map(_string, texts))


def impersonated(sender: User, target: Wanted, request: Attributes, authorize: Authorize) -> User:
    """The user that the request counts as. Raises 403 where the sender may not speak for them."""
    asker = _Asker(sender, authorize)
    refusal: ApiError | None = None
    for mode in _modes(sender, target):
        try:
            _check_constrained(asker, mode, target, request)
        except ApiError as refused:
            refusal = refusal or refused
        else:
            return _assumed(target, as_node=mode.endswith("-node"))
    try:
        _check_unlimited(asker, target)
    except ApiError as refused:
        raise refusal or refused from None
    return _assumed(target)


@dataclass(frozen=True, slots=True)
class _Asker:
    """Asks whether the sender may do one thing."""

    sender: User
    authorize: Authorize

    def require(self, attributes: Attributes) -> None:
        """Raises 403 where the sender may not."""
        decision = self.authorize(self.sender, attributes)
        if not decision.allowed:
            raise forbidden_request(self.sender, attributes, decision.reason)

    def require_any(self, attributes: Iterable[Attributes], all_of_them: Attributes) -> None:
        """Many of a kind are asked about at once, before each on its own (`all_of_them` names `*`)."""
        each = list(attributes)
        if len(each) >= _MANY and self.authorize(self.sender, all_of_them).allowed:
            return
        for one in each:
            self.require(one)

    def refuse(self, attributes: Attributes, why: str) -> ApiError:
        return forbidden_request(self.sender, attributes, why)


_MANY = 4


def _modes(sender: User, target: Wanted) -> Iterator[str]:
    """The kinds of constrained impersonation that may be used for the target, the most special one first."""
    if node := _node_name(target.name):
        if target.only_named:
            if service_account_of(sender.name) and _node_of(sender) == node:
                yield "associated-node"
            yield "arbitrary-node"
    elif service_account_of(target.name):
        if target.only_named:
            yield "serviceaccount"
    else:
        yield "user-info"


def _node_name(user: str) -> str:
    """`""` where it is no node's."""
    name = user.removeprefix(NODE_PREFIX)
    return name if name != user and not names.dns1123_subdomain(name) else ""


def _node_of(user: User) -> str:
    values = user.extra.get(NODE_NAME, ())
    return values[0] if len(values) == 1 else ""


def _check_constrained(asker: _Asker, mode: str, target: Wanted, request: Attributes) -> None:
    asker.require(request._replace(verb=f"impersonate-on:{mode}:{request.verb}"))
    verb = f"impersonate:{mode}"
    match mode:
        case "associated-node":
            asker.require(_identity(verb, "nodes", "*"))
        case "arbitrary-node":
            asker.require(_identity(verb, "nodes", _node_name(target.name)))
        case "serviceaccount":
            namespace, name = service_account_of(target.name) or ("", "")
            asker.require(_identity(verb, "serviceaccounts", name, namespace=namespace))
        case _:
            asker.require(_identity(verb, "users", target.name))
            if target.uid:
                asker.require(_identity(verb, "uids", target.uid))
            _check_groups(asker, verb, target.groups)
            _check_extra(asker, verb, target.extra or {})


def _check_groups(asker: _Asker, verb: str, groups: tuple[str, ...]) -> None:
    asked = _identity(verb, "groups", "")
    if "" in groups:
        raise asker.refuse(asked, "impersonating the empty string group is not allowed")
    if MASTERS in groups:
        raise asker.refuse(asked._replace(name=MASTERS), f"impersonating the {MASTERS} group is not allowed")
    asker.require_any((asked._replace(name=group) for group in groups), asked._replace(name="*"))


def _check_extra(asker: _Asker, verb: str, extra: Extra) -> None:
    asked = _identity(verb, "userextras", "")
    for key, values in extra.items():
        if problem := _problem_of_extra(key, values):
            raise asker.refuse(asked, f"impersonating {problem}")
    each = _each_extra(verb, extra)
    asker.require_any(each, asked._replace(subresource="*", name="*"))


def _problem_of_extra(key: str, values: tuple[str, ...]) -> str:
    if not key:
        return "the empty string key in extra is not allowed"
    if wrong := joined(map(str, fields.domain_prefixed_path("extra.key", key))):
        return f"an invalid key in extra is not allowed: {wrong}"
    return "the empty string value in extra is not allowed" if "" in values else ""


def _check_unlimited(asker: _Asker, target: Wanted) -> None:
    verb, account = "impersonate", service_account_of(target.name)
    if account is not None:
        asker.require(Attributes(verb, version="v1", resource="serviceaccounts", namespace=account[0], name=account[1]))
    else:
        asker.require(Attributes(verb, version="v1", resource="users", name=target.name))
    if target.uid:
        asker.require(_identity(verb, "uids", target.uid))
    for group in target.groups:
        asker.require(Attributes(verb, version="v1", resource="groups", name=group))
    for attributes in _each_extra(verb, target.extra or {}):
        asker.require(attributes)


def _each_extra(verb: str, extra: Extra) -> Iterator[Attributes]:
    return (_identity(verb, "userextras", value, subresource=key) for key, values in extra.items() for value in values)


def _identity(verb: str, resource: str, name: str, *, namespace: str = "", subresource: str = "") -> Attributes:
    return Attributes(verb, "", GROUP, "v1", resource, subresource, namespace, name)


def _assumed(target: Wanted, *, as_node: bool = False) -> User:
    extra = target.extra or {}
    account = service_account_of(target.name)
    if account is not None and not target.groups:
        return service_account_user(*account, target.uid, extra)
    groups = (*target.groups, *((NODES,) if as_node else ()))
    if target.name == ANONYMOUS.name:
        everybody = UNAUTHENTICATED
    else:
        everybody = UNAUTHENTICATED if UNAUTHENTICATED in groups else AUTHENTICATED
    return User(target.name, groups if everybody in groups else (*groups, everybody), target.uid, extra)
