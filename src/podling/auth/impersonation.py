"""Speaking for somebody else: the `Impersonate-*` headers, and who may.

Constrained impersonation (KEP-5284) is asked first: the right to be that identity (`impersonate:user-info` and its
kin) together with the right to do just this request as another (`impersonate-on:user-info:list` on pods). Where it
is not granted the older, unlimited verb `impersonate` still counts; a refusal speaks of the newer ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import orjson

from podling.api.errors import ApiError, bad_request
from podling.api.requests import Attributes, Authorize, forbidden_request
from podling.api.resources import User
from podling.auth.identities import (
    ANONYMOUS,
    AUTHENTICATED,
    NODE_PREFIX,
    NODES,
    UNAUTHENTICATED,
    service_account_of,
    service_account_user,
)

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
        _values(headers.get(b"impersonate-group", b"")),
        headers.get(b"impersonate-uid", b"").decode("latin-1"),
        extra or None,
    )
    if found.name:
        return found
    if found.only_named:
        return None
    raise bad_request(f"requested {_in_go(found)} without impersonating a user name")


def _values(joined: bytes) -> tuple[str, ...]:
    """Repeated headers come joined by a comma and a blank; a value may hold commas itself."""
    return tuple(value for part in joined.decode("latin-1").split(", ") if (value := part.strip()))


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
    refusal: ApiError | None = None
    for mode in _modes(sender, target):
        refused = _refusal(sender, _constrained(mode, target, request), authorize)
        if refused is None:
            return _assumed(target, as_node=mode.endswith("-node"))
        refusal = refusal or refused
    refused = _refusal(sender, _unlimited(target), authorize)
    if refused is None:
        return _assumed(target)
    raise refusal or refused


def _refusal(sender: User, needed: Iterator[Attributes], authorize: Authorize) -> ApiError | None:
    for attributes in needed:
        decision = authorize(sender, attributes)
        if not decision.allowed:
            return forbidden_request(sender, attributes, decision.reason)
    return None


def _modes(sender: User, target: Wanted) -> Iterator[str]:
    """The kinds of constrained impersonation that may be used for the target, the most special one first."""
    if target.name.startswith(NODE_PREFIX):
        if target.only_named:
            if service_account_of(sender.name) and _node_of(sender) == target.name.removeprefix(NODE_PREFIX):
                yield "associated-node"
            yield "arbitrary-node"
    elif service_account_of(target.name):
        if target.only_named:
            yield "serviceaccount"
    else:
        yield "user-info"


def _node_of(user: User) -> str:
    return next(iter(user.extra.get(NODE_NAME, ())), "")


def _constrained(mode: str, target: Wanted, request: Attributes) -> Iterator[Attributes]:
    yield request._replace(verb=f"impersonate-on:{mode}:{request.verb}")
    verb = f"impersonate:{mode}"
    match mode:
        case "associated-node":
            yield _identity(verb, "nodes", "*")
        case "arbitrary-node":
            yield _identity(verb, "nodes", target.name.removeprefix(NODE_PREFIX))
        case "serviceaccount":
            namespace, name = service_account_of(target.name) or ("", "")
            yield _identity(verb, "serviceaccounts", name, namespace=namespace)
        case _:
            yield _identity(verb, "users", target.name)
            yield from _attached(verb, target, GROUP)


def _unlimited(target: Wanted) -> Iterator[Attributes]:
    account = service_account_of(target.name)
    if account is not None:
        yield Attributes("impersonate", version="v1", resource="serviceaccounts", namespace=account[0], name=account[1])
    else:
        yield Attributes("impersonate", version="v1", resource="users", name=target.name)
    yield from _attached("impersonate", target, "")


def _attached(verb: str, target: Wanted, group: str) -> Iterator[Attributes]:
    """What else belongs to an identity; `group` is the API group in which `groups` are asked for."""
    for name in target.groups:
        yield Attributes(verb, "", group, "v1", "groups", name=name)
    for key, values in (target.extra or {}).items():
        for value in values:
            yield _identity(verb, "userextras", value, subresource=key)
    if target.uid:
        yield _identity(verb, "uids", target.uid)


def _identity(verb: str, resource: str, name: str, *, namespace: str = "", subresource: str = "") -> Attributes:
    return Attributes(verb, "", GROUP, "v1", resource, subresource, namespace, name)


def _assumed(target: Wanted, *, as_node: bool = False) -> User:
    extra = target.extra or {}
    account = service_account_of(target.name)
    if account is not None and not target.groups:
        return service_account_user(*account, target.uid, extra)
    groups = (*target.groups, *((NODES,) if as_node else ()))
    everybody = UNAUTHENTICATED if target.name == ANONYMOUS.name else AUTHENTICATED
    return User(target.name, groups if everybody in groups else (*groups, everybody), target.uid, extra)
