"""Who sent a request: a client certificate, a bearer token, or nobody; and whom they speak for (impersonation)."""

from __future__ import annotations

import base64

from podling.api.errors import unauthorized
from podling.api.http import FINGERPRINT, Certificate, Request
from podling.api.requests import Attributes, Authorize, RequestInfo
from podling.api.resources import User
from podling.auth.identities import ANONYMOUS, AUTHENTICATED, CREDENTIAL
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
        return impersonated(sender, target, Attributes.of(info), self._authorize)

    def _sender(self, request: Request) -> User:
        if request.certificate is not None:
            return certificate_user(request.certificate)
        scheme, _, token = request.header(b"authorization").partition(" ")
        token = token if scheme.lower() == "bearer" else offered_token(request.headers) if not scheme else ""
        if not token.strip():
            return ANONYMOUS
        try:
            return self._tokens.authenticate(token.strip())[0]
        except InvalidToken:
            raise unauthorized() from None


_TOKEN_PROTOCOL = "base64url.bearer.authorization.k8s.io."


def offered_token(headers: dict[bytes, bytes]) -> str:
    """The token of a WebSocket's handshake: browsers can set no header but the protocols, so one of these is the token.

    It is taken out, for whoever chooses among them. Raises 401 where nothing is left to choose.
    """
    header = b"sec-websocket-protocol"
    offered = [offer.strip() for offer in headers.get(header, b"").decode("latin-1").split(",")]
    encoded = next((offer for offer in offered if offer.startswith(_TOKEN_PROTOCOL)), None)
    if encoded is None:
        return ""
    rest = [offer for offer in offered if offer != encoded]
    if not rest:
        raise unauthorized()
    headers[header] = ", ".join(rest).encode("latin-1")
    text = encoded.removeprefix(_TOKEN_PROTOCOL)
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        raise unauthorized() from None


def certificate_user(certificate: Certificate) -> User:
    """The common name is the user, the organizations are the groups."""
    fields = [pair for name in certificate.get("subject", ()) for pair in name]
    names = [value for key, value in fields if key == "commonName"]
    groups = [value for key, value in fields if key == "organizationName"]
    extra = {CREDENTIAL: (f"X509SHA256={certificate[FINGERPRINT]}",)} if FINGERPRINT in certificate else {}
    return User(names[0] if names else "", (*groups, AUTHENTICATED), extra=extra)
