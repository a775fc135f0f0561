"""Service-account tokens: JSON Web Tokens that the API server issues and that only it has to understand.

The claims are those of Kubernetes (KEP-1205, bound service account tokens): `sub` names the service account,
`kubernetes.io` says to which objects the token is bound. A token is good as long as its signature, its time and
everything it is bound to are. Signatures are checked once and remembered until the token ends; the bound
objects, which may go at any moment, are looked up each time.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, cast

from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import ECKey

from podling.api import meta
from podling.api.resources import Reader, User
from podling.auth.identities import CREDENTIAL, PREFIX, service_account_user
from podling.store.types import Object

ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIENCE = ISSUER
"""Of tokens that are meant for the API server itself."""
ALGORITHM = "ES256"
REMEMBERED = 4096
"""How many verified tokens are remembered."""

LEEWAY = 60
"""Seconds for which a token outlives what it is bound to."""
INVALIDATED = "service account token has been invalidated"
WARN_AFTER = 3607
"""A pod's token is renewed by then; a longer-lived one that is still used later is worth a warning (KEP-1205)."""

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


class ServiceAccountTokens:
    """Issues and verifies tokens with one key. `clock` gives Unix time in seconds, as those know it who use them;
    `cluster_clock` that of the cluster's objects, where it is another.
    """

    def __init__(
        self,
        key: ECKey,
        reader: Reader,
        clock: Callable[[], float],
        cluster_clock: Callable[[], float] | None = None,
    ) -> None:
        self._key = key
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
    ) -> ServiceAccountTokens:
        return cls(ECKey.import_key(path.read_bytes()), reader, clock, cluster_clock)

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
        """A token for the service account, good for `seconds` from now."""
        now = int(self._clock())
        bound: dict[str, Any] = {b.kind.lower(): {"name": b.name, "uid": b.uid} for b in bindings}
        details: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}, **bound}
        if "pod" in bound and seconds > WARN_AFTER:
            details["warnafter"] = now + WARN_AFTER
        claims: dict[str, Any] = {
            "aud": list(audiences),
            "exp": now + seconds,
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
            "iss": "kubernetes/serviceaccount",
            f"{prefix}namespace": namespace,
            f"{prefix}secret.name": secret,
            f"{prefix}service-account.name": name,
            f"{prefix}service-account.uid": uid,
            "sub": f"{PREFIX}{namespace}:{name}",
        }
        return jwt.encode({"alg": ALGORITHM, "kid": self.key_id}, claims, self._key)

    def authenticate(self, token: str, audiences: Iterable[str] = (AUDIENCE,)) -> tuple[User, list[str]]:
        """The user of a token, and those of `audiences` that it is meant for. Raises `InvalidToken`."""
        claims, user = self._known(token)
        wanted = list(audiences)
        if "kubernetes.io" not in claims:
            self._require_legacy(claims)
            return user, wanted
        meant = [a for a in wanted if a in cast(list[str], claims["aud"])]
        if wanted and not meant:
            of, target = (" ".join(map(_quoted, some)) for some in (cast("list[str]", claims["aud"]), wanted))
            raise InvalidToken(f"token audiences [{of}] is invalid for the target audiences [{target}]")
        self._require_bound(claims["kubernetes.io"])
        return user, meant

    def _known(self, token: str) -> _Verified:
        digest = sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is None:
            claims = self._verify(token)
            known = self._verified[digest] = _Verified(claims, _user_of(claims))
            if len(self._verified) > REMEMBERED:
                self._verified.popitem(last=False)
        now = self._clock()
        if now >= known.claims.get("exp", now + 1):
            raise InvalidToken("service account token has expired")
        if now < known.claims.get("nbf", 0) - 1:
            raise InvalidToken("service account token is not valid yet")
        return known

    def _verify(self, token: str) -> Claims:
        try:
            return jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims
        except BadSignatureError as error:
            raise InvalidToken("go-jose/go-jose: error in cryptographic primitive") from error
        except (JoseError, ValueError) as error:
            raise ForeignToken from error

    def _require_bound(self, bound: Mapping[str, Any]) -> None:
        """Whether the account and what the token is bound to are still there. A pod's token does not end with its
        node."""
        namespace = bound["namespace"]
        self._require_account(namespace, bound["serviceaccount"])
        for kind, resource in (("secret", "secrets"), ("pod", "pods")):
            if kind in bound:
                self._require(kind, resource, namespace, bound[kind])

    def _require_legacy(self, claims: Claims) -> None:
        namespace, account, uid, secret = _legacy_fields(claims)
        self._require_account(namespace, {"name": account, "uid": uid})
        stored = self._reader.get("secrets", namespace, secret)
        if stored is None or stored["metadata"].get("deletionTimestamp"):
            raise InvalidToken(INVALIDATED)

    def _require_account(self, namespace: str, reference: Mapping[str, str]) -> None:
        name = reference["name"]
        account = self._reader.get("serviceaccounts", namespace, name)
        if account is None:
            raise InvalidToken(f'serviceaccounts "{name}" not found')
        if self._is_gone(account):
            raise InvalidToken(f"service account {namespace}/{name} has been deleted")
        if meta.uid(account) != reference["uid"]:
            raise InvalidToken(f"service account UID ({meta.uid(account)}) does not match claim ({reference['uid']})")

    def _require(self, kind: str, resource: str, namespace: str, reference: Mapping[str, str]) -> None:
        """Whether what a token is bound to is still there, and still the same."""
        bound = self._reader.get(resource, namespace, reference["name"])
        if bound is None or self._is_gone(bound):
            raise InvalidToken(INVALIDATED)
        if meta.uid(bound) != reference["uid"]:
            claim = f"service account {kind} ref claim ({reference['uid']})"
            raise InvalidToken(f"{kind} UID ({meta.uid(bound)}) does not match {claim}")

    def _is_gone(self, obj: Object) -> bool:
        """Whether its time was over a while ago: what it still does on its way out, it may do."""
        ends = meta.metadata(obj).get("deletionTimestamp")
        return bool(ends) and meta.parse_time(ends).timestamp() < self._cluster_clock() - LEEWAY


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


def _quoted(text: str) -> str:
    return f'"{text}"'
