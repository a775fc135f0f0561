"""Who sent a request: a client certificate, a bearer token, or nobody; and whom they speak for (impersonation)."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from podling.api.answers import warning
from podling.api.errors import unauthorized
from podling.api.http import FINGERPRINT, Certificate, Request
from podling.api.requests import Attributes, Authorize, Query, RequestInfo
from podling.api.resources import User
from podling.api.streams.events import asks_for_websocket
from podling.auth.identities import ANONYMOUS, AUTHENTICATED, CREDENTIAL, UNAUTHENTICATED
from podling.auth.impersonation import impersonated, wanted
from podling.auth.tokens import InvalidToken, ServiceAccountTokens


class Authenticator:
    """Callable as `podling.api.requests.Authenticate`."""

    def __init__(self, tokens: ServiceAccountTokens, authorize: Authorize) -> None:
        self._tokens = tokens
        self._authorize = authorize

    def __call__(self, request: Request) -> User:
        sender = self._sender(request)
        target = wanted(request.headers)
        if target is None:
            return sender
        info = request.info or RequestInfo(request.method.lower(), request.path)
        return impersonated(sender, target, Attributes.of(info, Query.parse(request.query)), self._authorize)

    def _sender(self, request: Request) -> User:
        """By the first credential that is good. Raises 401 where there are some and none is."""
        user = certificate_user(request.certificate) if request.certificate is not None else None
        if user is not None:
            return user
        refused: InvalidToken | None = None
        for token in _tokens(request):
            try:
                recognized = self._tokens.authenticate(token)
            except InvalidToken as error:
                refused = error
            else:
                if recognized.warning:
                    request.notices = (*request.notices, warning(recognized.warning))
                return recognized.user
        if refused is not None:
            raise unauthorized() from refused
        return ANONYMOUS


def _tokens(request: Request) -> Iterator[str]:
    token, is_misplaced = bearer_token(request.header(b"authorization"))
    if is_misplaced:
        request.notices = (*request.notices, warning(_MISPLACED))
    if token:
        yield token
    if asks_for_websocket(request) and (offered := offered_token(request.headers)):
        yield offered


_MISPLACED = "the provided Authorization header contains extra space before the bearer token, and is ignored"


def bearer_token(authorization: str) -> tuple[str, bool]:
    """The token of an `Authorization` header, `""` where it holds none; and whether there was one too far behind."""
    words = authorization.strip().split(" ", 2)
    if len(words) < 2 or words[0].lower() != "bearer":
        return "", False
    return words[1], not words[1]


_TOKEN_PROTOCOL = "base64url.bearer.authorization.k8s.io."


def offered_token(headers: dict[bytes, bytes]) -> str:
    """The token of a WebSocket's handshake: browsers can set no header but the protocols, so one of these is the token.

    It is taken out, for whoever chooses among them. Raises 401 where there are several, or nothing is left to choose.
    """
    header = b"sec-websocket-protocol"
    offered = [offer.strip() for offer in headers.get(header, b"").decode("latin-1").split(",")]
    encoded = [offer.removeprefix(_TOKEN_PROTOCOL) for offer in offered if offer.startswith(_TOKEN_PROTOCOL)]
    if not encoded:
        return ""
    rest = [offer for offer in offered if not offer.startswith(_TOKEN_PROTOCOL)]
    if len(encoded) > 1 or not rest:
        raise unauthorized()
    headers[header] = ", ".join(rest).encode("latin-1")
    text = encoded[0]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise unauthorized() from None


_UID = "1.3.6.1.4.1.57683.2"
"""The attribute of a certificate's subject that holds a uid (KEP-4872)."""


def certificate_user(certificate: Certificate) -> User | None:
    """The common name is the user, the organizations are the groups. `None` for a certificate without a name.

    Raises 401 where it does not say clearly which uid it has.
    """
    fields = [pair for name in certificate.get("subject", ()) for pair in name]
    names = [value for key, value in fields if key == "commonName"]
    uids = [value for key, value in fields if key == _UID]
    if not names or not names[-1]:
        return None
    if len(uids) > 1 or "" in uids:
        raise unauthorized()
    groups = tuple(value for key, value in fields if key == "organizationName")
    extra = {CREDENTIAL: (f"X509SHA256={certificate[FINGERPRINT]}",)} if FINGERPRINT in certificate else {}
    if not {AUTHENTICATED, UNAUTHENTICATED} & {*groups} and names[-1] != ANONYMOUS.name:
        groups = (*groups, AUTHENTICATED)
    return User(names[-1], groups, "".join(uids), extra)
