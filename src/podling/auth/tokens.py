"""Service-account tokens: JSON Web Tokens that the API server issues and that only it has to understand.

The claims are those of Kubernetes (KEP-1205, bound service account tokens): `sub` names the service account,
`kubernetes.io` says to which objects the token is bound. A token is good as long as its signature, its time and
everything it is bound to are. Signatures are checked once and remembered until the token ends; the bound
objects, which may go at any moment, are looked up each time.
"""

from __future__ import annotations

import json
import uuid
from base64 import b64encode, urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, cast

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from podling.api import meta
from podling.api.gotext import quoted
from podling.api.resources import Reader, User
from podling.auth.identities import CREDENTIAL, PREFIX, service_account_user
from podling.store.types import Object

ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIENCE = ISSUER
"""Of tokens that are meant for the API server itself."""
ALGORITHM = "ES256"
REMEMBERED = 4096
"""How many verified tokens are remembered."""

LEGACY_ISSUER = "kubernetes/serviceaccount"
"""Of the tokens of Secrets."""
LEEWAY = 60
"""Seconds for which a token outlives its time, and what it is bound to; clocks differ."""
INVALIDATED = "service account token has been invalidated"
POD_SECONDS = 3607
"""What admission asks for in every pod: one hour and a few seconds, by which it is told from what users ask for."""
EXTENDED_SECONDS = 365 * 24 * 3600
"""How long such a token is really good, for programs that read it only once (KEP-1205)."""
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
"""Labels of token secrets (KEP-2799)."""

Claims = Mapping[str, Any]


class _Verified(NamedTuple):
    """A token whose signature is good."""

    claims: Claims
    user: User


class InvalidToken(Exception):
    """The token is not ours, has ended, or something it is bound to has gone. Says which."""


class ForeignToken(InvalidToken):
    """The token is none of ours: nothing more can be said about it."""

    def __init__(self) -> None:
        super().__init__("invalid bearer token")


@dataclass(frozen=True, slots=True)
class Binding:
    """An object that a token shall not outlive: a Pod, Node or Secret."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Issued:
    token: str
    expires: int
    """Unix time in seconds."""


class Recognized(NamedTuple):
    """Whose token it is, for which of the asked audiences it is meant, and what its user should be told."""

    user: User
    audiences: list[str]
    warning: str = ""


def _nothing(_secret: Object) -> None:
    return None


class ServiceAccountTokens:
    """Issues and verifies tokens with one key. `clock` gives Unix time in seconds, as those know it who use them;
    `cluster_clock` that of the cluster's objects, where it is another. `used` is told of each secret whose token was
    shown.
    """

    def __init__(
        self,
        key: ECKey,
        reader: Reader,
        clock: Callable[[], float],
        cluster_clock: Callable[[], float] | None = None,
        used: Callable[[Object], None] = _nothing,
    ) -> None:
        self._key = key
        self._used = used
        self._reader = reader
        self._clock = clock
        self._cluster_clock = cluster_clock or clock
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    @classmethod
    def from_pem(
        cls,
        path: Path,
        reader: Reader,
        clock: Callable[[], float],
        cluster_clock: Callable[[], float] | None = None,
        used: Callable[[Object], None] = _nothing,
    ) -> ServiceAccountTokens:
        return cls(ECKey.import_key(path.read_bytes()), reader, clock, cluster_clock, used)

    @property
    def key_id(self) -> str:
        return self._key.thumbprint()

    def public_keys(self) -> dict[str, Any]:
        """The JSON Web Key Set of `/openid/v1/jwks`."""
        public = self._key.as_dict(private=False)
        return {"keys": [{**public, "use": "sig", "kid": self.key_id, "alg": ALGORITHM}]}

    def issue(
        self,
        namespace: str,
        name: str,
        uid: str,
        *,
        audiences: Iterable[str],
        seconds: int,
        bindings: Iterable[Binding] = (),
    ) -> Issued:
        """A token for the service account, good for `seconds` from now (an ordinary pod's silently for longer)."""
        now, meant = int(self._clock()), list(audiences)
        bound = {b.kind.lower(): {"name": b.name, **({"uid": b.uid} if b.uid else {})} for b in bindings}
        details: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}, **bound}
        extended = "pod" in bound and seconds == POD_SECONDS and set(meant) <= {AUDIENCE}
        if extended:
            details["warnafter"] = now + seconds
        claims: dict[str, Any] = {
            "aud": meant,
            "exp": now + (EXTENDED_SECONDS if extended else seconds),
            "iat": now,
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": details,
            "nbf": now,
            "sub": f"{PREFIX}{namespace}:{name}",
        }
        return Issued(jwt.encode({"alg": ALGORITHM, "kid": self.key_id}, claims, self._key), now + seconds)

    def issue_legacy(self, namespace: str, name: str, uid: str, secret: str) -> str:
        """The endless token of a Secret of type `kubernetes.io/service-account-token`."""
        prefix = "kubernetes.io/serviceaccount/"
        claims: dict[str, Any] = {
            "iss": LEGACY_ISSUER,
            f"{prefix}namespace": namespace,
            f"{prefix}secret.name": secret,
            f"{prefix}service-account.name": name,
            f"{prefix}service-account.uid": uid,
            "sub": f"{PREFIX}{namespace}:{name}",
        }
        return jwt.encode({"alg": ALGORITHM, "kid": self.key_id}, claims, self._key)

    def authenticate(self, token: str, audiences: Iterable[str] = (AUDIENCE,)) -> Recognized:
        """Whose token it is, and for which of `audiences` it is meant. Raises `InvalidToken`."""
        claims, user = self._known(token)
        wanted, legacy = list(audiences), "kubernetes.io" not in claims
        given = [AUDIENCE] if legacy else cast("list[str]", claims["aud"])
        meant = [a for a in given if a in wanted]
        if not meant:
            of, target = (" ".join(map(quoted, some)) for some in (given, wanted))
            raise InvalidToken(f"token audiences [{of}] is invalid for the target audiences [{target}]")
        self._check_time(claims)
        if legacy:
            return Recognized(user, meant, self._require_legacy(claims, token))
        self._require_bound(claims["kubernetes.io"])
        return Recognized(user, meant)

    def _known(self, token: str) -> _Verified:
        digest = sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is None:
            claims = self._verify(token)
            known = self._verified[digest] = _Verified(claims, _user_of(claims))
            if len(self._verified) > REMEMBERED:
                self._verified.popitem(last=False)
        return known

    def _verify(self, token: str) -> Claims:
        header, claims = _unverified(token)
        if claims.get("iss") not in (ISSUER, LEGACY_ISSUER):
            raise ForeignToken
        if header.get("kid") not in (None, "", self.key_id):
            raise InvalidToken("invalid signature, no keys found")
        try:
            return jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError) as error:
            raise InvalidToken("go-jose/go-jose: error in cryptographic primitive") from error

    def _check_time(self, claims: Claims) -> None:
        now = self._clock()
        if now + LEEWAY < claims.get("nbf", 0):
            raise InvalidToken("service account token is not valid yet")
        if now - LEEWAY > claims.get("exp", now):
            raise InvalidToken("service account token has expired")
        if now + LEEWAY < claims.get("iat", 0):
            raise InvalidToken("service account token is issued in the future")

    def _require_bound(self, bound: Mapping[str, Any]) -> None:
        """Whether the account and what the token is bound to are still there. A pod's token does not end with its
        node."""
        namespace, reference = bound["namespace"], bound["serviceaccount"]
        account = self._account(namespace, reference["name"])
        if meta.uid(account) != reference["uid"]:
            raise InvalidToken(f"service account UID ({meta.uid(account)}) does not match claim ({reference['uid']})")
        if self._is_gone(account):
            raise InvalidToken(f"service account {namespace}/{reference['name']} has been deleted")
        for kind, resource in (("secret", "secrets"), ("pod", "pods")):
            if kind in bound:
                self._require(kind, resource, namespace, bound[kind])
        if "node" in bound and "pod" not in bound:
            self._require("node", "nodes", "", bound["node"])

    def _require_legacy(self, claims: Claims, token: str) -> str:
        """Whether the secret still holds the token. What its user should be told."""
        namespace, name, uid, secret_name = _legacy_fields(claims)
        secret = self._reader.get("secrets", namespace, secret_name)
        if secret is None or meta.deleting(secret):
            raise InvalidToken("Token has been invalidated")
        if meta.part(secret, "data").get("token") != b64encode(token.encode()).decode():
            raise InvalidToken("Token does not match server's copy")
        account = self._account(namespace, name)
        if meta.deleting(account):
            raise InvalidToken(f"ServiceAccount {namespace}/{name} has been deleted")
        if meta.uid(account) != uid:
            raise InvalidToken(f"ServiceAccount UID ({meta.uid(account)}) does not match claim ({uid})")
        self._used(secret)
        if meta.labels(secret).get(INVALID_SINCE):
            where = f"the token in secret {namespace}/{secret_name} for service account {namespace}/{name}"
            raise InvalidToken(
                f"{where} has been marked invalid. Use tokens from the TokenRequest API or manually created "
                f"secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use "
                "of this token"
            )
        return _AUTOGENERATED if any(s.get("name") == secret_name for s in meta.items(account, "secrets")) else ""

    def _account(self, namespace: str, name: str) -> Object:
        account = self._reader.get("serviceaccounts", namespace, name)
        if account is None:
            raise InvalidToken(f'serviceaccounts "{name}" not found')
        return account

    def _require(self, kind: str, resource: str, namespace: str, reference: Mapping[str, str]) -> None:
        """Whether what a token is bound to is still there, and still the same."""
        bound = self._reader.get(resource, namespace, reference["name"])
        if bound is None:
            raise InvalidToken(INVALIDATED)
        if meta.uid(bound) != reference["uid"]:
            claim = f"service account {kind} ref claim ({reference['uid']})"
            raise InvalidToken(f"{kind} UID ({meta.uid(bound)}) does not match {claim}")
        if self._is_gone(bound):
            raise InvalidToken(INVALIDATED)

    def _is_gone(self, obj: Object) -> bool:
        """Whether its time was over a while ago: what it still does on its way out, it may do."""
        ends = meta.metadata(obj).get("deletionTimestamp")
        return bool(ends) and meta.parse_time(ends).timestamp() < self._cluster_clock() - LEEWAY


_AUTOGENERATED = (
    "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated "
    "secret-based tokens."
)


def _unverified(token: str) -> tuple[Claims, Claims]:
    """Header and claims as they are written. Raises `ForeignToken` for what is no JSON Web Token."""
    parts = token.split(".")
    if len(parts) != 3:
        raise ForeignToken
    try:
        header, claims = (json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    except ValueError as error:
        raise ForeignToken from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise ForeignToken
    return cast(Claims, header), cast(Claims, claims)


def _user_of(claims: Claims) -> User:
    """Whom a token names. Raises `ForeignToken`."""
    try:
        bound: Mapping[str, Any] | None = claims.get("kubernetes.io")
        return _legacy_user(claims) if bound is None else _bound_user(bound, claims["jti"])
    except KeyError as missing:
        raise ForeignToken from missing


def _bound_user(bound: Mapping[str, Any], token: str) -> User:
    extra = {CREDENTIAL: (f"JTI={token}",)}
    for kind in ("pod", "node"):
        if kind in bound:
            extra[f"authentication.kubernetes.io/{kind}-name"] = (bound[kind]["name"],)
            if "uid" in bound[kind]:  # a pod's node may not be registered
                extra[f"authentication.kubernetes.io/{kind}-uid"] = (bound[kind]["uid"],)
    account = bound["serviceaccount"]
    return service_account_user(bound["namespace"], account["name"], account["uid"], extra)


def _legacy_user(claims: Claims) -> User:
    namespace, name, uid, _ = _legacy_fields(claims)
    return service_account_user(namespace, name, uid, {})


def _legacy_fields(claims: Claims) -> list[str]:
    """Namespace, account, its uid, and the secret."""
    fields = ("namespace", "service-account.name", "service-account.uid", "secret.name")
    return [claims[f"kubernetes.io/serviceaccount/{field}"] for field in fields]
