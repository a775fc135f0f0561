"""Who sent a request: a client certificate, a bearer token, or nobody; and whom they speak for (impersonation)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

from podling.api.errors import bad_request, unauthorized
from podling.api.http import Certificate, Request
from podling.api.requests import Attributes, Authorize, forbidden_request
from podling.api.resources import User
from podling.auth.tokens import PREFIX, InvalidToken, ServiceAccountTokens, service_account_user

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))
EXTRA_HEADER = b"impersonate-extra-"


class Authenticator:
    """Callable as `podling.api.requests.Authenticate`."""

    def __init__(self, tokens: ServiceAccountTokens, authorize: Authorize) -> None:
        self._tokens = tokens
        self._authorize = authorize

    def __call__(self, request: Request) -> User:
        user = self._sender(request)
        if b"impersonate-user" in request.headers or _speaks_for_others(request):
            return self._impersonated(request, user)
        return user

    def _sender(self, request: Request) -> User:
        if request.certificate is not None:
            return certificate_user(request.certificate)
        authorization = request.header(b"authorization")
        if not authorization:
            return ANONYMOUS
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return ANONYMOUS
        try:
            return self._tokens.authenticate(token.strip())[0]
        except InvalidToken:
            raise unauthorized() from None

    def _impersonated(self, request: Request, sender: User) -> User:
        name = request.header(b"impersonate-user")
        if not name:
            raise bad_request("requested impersonation but no user was specified: set the header Impersonate-User")
        groups = _values(request.header(b"impersonate-group"))
        uid = request.header(b"impersonate-uid")
        extra = _extra(request)
        for attributes in _needed_rights(name, groups, uid, extra):
            decision = self._authorize(sender, attributes)
            if not decision.allowed:
                raise forbidden_request(sender, attributes, decision.reason)
        return _assume(name, groups, uid, extra)


def certificate_user(certificate: Certificate) -> User:
    """The common name is the user, the organizations are the groups."""
    fields = [pair for name in certificate.get("subject", ()) for pair in name]
    names = [value for key, value in fields if key == "commonName"]
    groups = [value for key, value in fields if key == "organizationName"]
    return User(names[0] if names else "", (*groups, AUTHENTICATED))


def _speaks_for_others(request: Request) -> bool:
    return any(name.startswith(b"impersonate-") for name in request.headers)


def _values(joined: str) -> list[str]:
    return [value for part in joined.split(",") if (value := part.strip())]


def _extra(request: Request) -> dict[str, tuple[str, ...]]:
    return {
        unquote(name[len(EXTRA_HEADER) :].decode("latin-1")): tuple(_values(value.decode("latin-1")))
        for name, value in request.headers.items()
        if name.startswith(EXTRA_HEADER)
    }


def _needed_rights(
    name: str, groups: Iterable[str], uid: str, extra: dict[str, tuple[str, ...]]
) -> Iterable[Attributes]:
    account = name.removeprefix(PREFIX).split(":") if name.startswith(PREFIX) else []
    if len(account) == 2:
        yield Attributes("impersonate", version="v1", resource="serviceaccounts", namespace=account[0], name=account[1])
    else:
        yield Attributes("impersonate", version="v1", resource="users", name=name)
    for group in groups:
        yield Attributes("impersonate", version="v1", resource="groups", name=group)
    if uid:
        yield Attributes("impersonate", "", "authentication.k8s.io", "v1", "uids", "", "", uid)
    for key, values in extra.items():
        for value in values:
            yield Attributes("impersonate", "", "authentication.k8s.io", "v1", "userextras", key, "", value)


def _assume(name: str, groups: list[str], uid: str, extra: dict[str, tuple[str, ...]]) -> User:
    account = name.removeprefix(PREFIX).split(":") if name.startswith(PREFIX) else []
    if len(account) == 2 and not groups:
        return service_account_user(account[0], account[1], uid, extra)
    if name == ANONYMOUS.name:
        return User(name, (*groups, *([] if UNAUTHENTICATED in groups else [UNAUTHENTICATED])), uid, extra)
    return User(name, (*groups, *([] if AUTHENTICATED in groups else [AUTHENTICATED])), uid, extra)
