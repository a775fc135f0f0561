"""The kinds that are asked and answered, but never stored: who am I, may they, and a token please.

`serve` registers them: SubjectAccessReview and its kin (authorization.k8s.io), TokenReview and SelfSubjectReview
(authentication.k8s.io), TokenRequest (`serviceaccounts/NAME/token`), and the discovery of the token issuer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from podling.api import meta
from podling.api.creators import Creator
from podling.api.errors import ApiError, FieldError, bad_request, conflict, invalid, invalid_value, not_found, required
from podling.api.gotext import quoted
from podling.api.http import Request
from podling.api.lifecycle import place_in_namespace
from podling.api.requests import Attributes, Authorize, Call
from podling.api.resources import Reader, Resource, User
from podling.api.selectors import FieldTerm, parse_field_selector, parse_label_selector
from podling.api.server import ApiServer, Exchange
from podling.auth.identities import node_of
from podling.auth.rbac import Rbac, Rule, joined
from podling.auth.tokens import AUDIENCE, ISSUER, Binding, ForeignToken, InvalidToken, ServiceAccountTokens
from podling.kinds.validation import fields
from podling.store.types import Object

AUTHENTICATION = "authentication.k8s.io"
AUTHORIZATION = "authorization.k8s.io"
SHORTEST = 600
LONGEST = 1 << 32
DEFAULT_SECONDS = 3600
_SYSTEM_FIELDS = frozenset({"creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"})
BINDABLE = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


def serve(server: ApiServer, tokens: ServiceAccountTokens, rbac: Rbac, authorize: Authorize) -> None:
    """Registers everything of this module. `authorize` decides, `rbac` knows the rules behind most decisions."""
    reviews = Reviews(server, tokens, rbac, authorize)
    for plural, group, handler in (
        ("subjectaccessreviews", AUTHORIZATION, reviews.subject_access),
        ("localsubjectaccessreviews", AUTHORIZATION, reviews.local_subject_access),
        ("selfsubjectaccessreviews", AUTHORIZATION, reviews.self_subject_access),
        ("selfsubjectrulesreviews", AUTHORIZATION, reviews.self_subject_rules),
        ("selfsubjectreviews", AUTHENTICATION, reviews.self_subject),
        ("tokenreviews", AUTHENTICATION, reviews.token),
    ):
        server.handle(f"{plural}.{group}", "", handler, "create")
    server.add_creator("serviceaccounts", "token", token_creator(server, tokens))
    server.handle_path("/openid/v1/jwks", _document(lambda: tokens.public_keys(), "application/jwk-set+json"))
    server.handle_path("/.well-known/openid-configuration", _document(lambda: _issuer(server), "application/json"))


def _document(content: Callable[[], Object], media_type: str) -> Callable[[Request, User], None]:
    def answer(request: Request, _user: User) -> None:
        request.respond(200, orjson.dumps(content()), media_type, (("Cache-Control", "public, max-age=3600"),))

    return answer


def _issuer(server: ApiServer) -> Object:
    """The OpenID discovery document: the keys are where this server is reached."""
    return {
        "issuer": ISSUER,
        "jwks_uri": f"https://{server.address}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


class Reviews:
    """The handlers; each answers one exchange."""

    def __init__(self, server: ApiServer, tokens: ServiceAccountTokens, rbac: Rbac, authorize: Authorize) -> None:
        self._server = server
        self._tokens = tokens
        self._rbac = rbac
        self._authorize = authorize

    def subject_access(self, exchange: Exchange) -> None:
        self._answer_access(exchange, _named_user)

    def local_subject_access(self, exchange: Exchange) -> None:
        self._answer_access(exchange, _named_user, namespace=exchange.info.namespace)

    def self_subject_access(self, exchange: Exchange) -> None:
        self._answer_access(exchange, lambda _spec: exchange.user)

    def _answer_access(self, exchange: Exchange, user: Callable[[Object], User], namespace: str | None = None) -> None:
        review = self._body(exchange)
        spec = meta.spec(review)
        problems = access_problems(review, namespace, named=user is _named_user)
        if problems:
            raise invalid("", AUTHORIZATION, "", problems)
        decision = self._authorize(user(spec), attributes_of(spec))
        status: Object = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        if ignored := _ignored(meta.part(spec, "resourceAttributes")):
            status["evaluationError"] = ignored
        self._respond(exchange, review, status)

    def self_subject_rules(self, exchange: Exchange) -> None:
        review = self._body(exchange)
        namespace = meta.spec(review).get("namespace")
        if not namespace:
            raise bad_request("no namespace on request")
        granted = self._rbac.granted(exchange.user, namespace)
        rules = [grant.rule for grant in granted.grants]
        status: Object = {
            "resourceRules": [_ordered(r) for r in rules if not r.get("nonResourceURLs")],
            "nonResourceRules": [_ordered(r) for r in rules if r.get("nonResourceURLs")],
            "incomplete": False,
        }
        problems = [granted.problem] if granted.problem else []
        if node_of(exchange.user) is not None:
            status["incomplete"] = True
            problems.insert(0, "node authorizer does not support user rule resolution")
        if problems:
            status["evaluationError"] = joined(problems)
        self._respond(exchange, review, status)

    def self_subject(self, exchange: Exchange) -> None:
        exchange.body()
        now = self._server.registry.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        review = {"metadata": {"creationTimestamp": now}}
        self._respond(exchange, review, {"userInfo": user_info(exchange.user)})

    def token(self, exchange: Exchange) -> None:
        review = self._body(exchange)
        spec = meta.spec(review)
        if not spec.get("token"):
            raise bad_request("token is required for TokenReview in authentication")
        self._respond(exchange, review, self._token_status(spec))

    def _token_status(self, spec: Object) -> Object:
        asked: Sequence[str] = spec.get("audiences") or ()
        try:
            user, audiences, _ = self._tokens.authenticate(spec["token"], asked or (AUDIENCE,))
        except ForeignToken as error:
            return {"user": {}, "error": str(error)}
        except InvalidToken as error:
            return {"user": {}, "error": f"[{ForeignToken()}, {error}]"}
        return {"authenticated": True, "user": user_info(user), "audiences": audiences}

    def _body(self, exchange: Exchange) -> Object:
        """What was sent, with its managed fields; of its metadata what is the server's does not count."""
        review, resource = exchange.body(), exchange.resource
        metadata = {key: value for key, value in meta.metadata(review).items() if key not in _SYSTEM_FIELDS}
        place_in_namespace(metadata, exchange.info.namespace, namespaced=resource.namespaced)
        return self._server.registry.track(resource, None, {**review, "metadata": metadata}, exchange.call)

    def _respond(self, exchange: Exchange, review: Object, status: Object) -> None:
        resource = exchange.resource
        named = {"kind": resource.kind, "apiVersion": resource.api_version}
        exchange.respond({**named, **review, "status": status}, 201)


def _named_user(spec: Object) -> User:
    extra = {key: tuple(values) for key, values in meta.part(spec, "extra").items()}
    return User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)


def access_problems(review: Object, namespace: str | None, *, named: bool) -> list[FieldError]:
    """What is wrong with an access review: `named` ones name the user, local ones have a `namespace`."""
    spec = meta.spec(review)
    return [
        *_spec_problems(spec, named=named),
        *_metadata_problems(meta.metadata(review), local=namespace is not None),
        *_local_problems(spec, namespace),
    ]


def _spec_problems(spec: Object, *, named: bool) -> Iterable[FieldError]:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and path is not None:
        only_one = "cannot be specified in combination with resourceAttributes"
        yield invalid_value("spec.nonResourceAttributes", path, only_one)
    if resource is None and path is None:
        needed = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        yield invalid_value("spec.resourceAttributes", None, needed)
    if named and not spec.get("user") and not spec.get("groups"):
        yield invalid_value("spec.user", spec.get("user", ""), "at least one of user or group must be specified")
    if resource is not None:
        at = "spec.resourceAttributes"
        yield from _selector_problems(resource.get("fieldSelector"), f"{at}.fieldSelector", _field_requirement)
        yield from _selector_problems(resource.get("labelSelector"), f"{at}.labelSelector", _label_requirement)


def _selector_problems(
    selector: Object | None, path: str, check: Callable[[str, Object], list[FieldError]]
) -> Iterable[FieldError]:
    """Operators that this server does not know are let through: a newer asker may (KEP-4601)."""
    if selector is None:
        return
    raw, requirements = selector.get("rawSelector"), selector.get("requirements") or ()
    if raw and requirements:
        yield invalid_value(f"{path}.rawSelector", raw, "may not specified at the same time as requirements")
    if not raw and not requirements:
        yield required(f"{path}.requirements", f"when {path} is specified, requirements or rawSelector is required")
    for index, requirement in enumerate(requirements):
        yield from check(f"{path}.requirements[{index}]", requirement)


def _field_requirement(path: str, requirement: Object) -> list[FieldError]:
    errors = [] if requirement.get("key") else [required(f"{path}.key", "must be specified")]
    return errors + fields.selector_operator(path, requirement, known_only=False)


def _label_requirement(path: str, requirement: Object) -> list[FieldError]:
    return fields.selector_requirement(path, requirement, known_only=False)


def _metadata_problems(metadata: Object, *, local: bool) -> Iterable[FieldError]:
    if {key for key, value in metadata.items() if value} - {"namespace", "managedFields"}:
        yield invalid_value("metadata", metadata, f"must be empty{' except for namespace' if local else ''}")


def _local_problems(spec: Object, namespace: str | None) -> Iterable[FieldError]:
    if namespace is None:
        return
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and resource.get("namespace", "") != namespace:
        asked = resource.get("namespace", "")
        yield invalid_value("spec.resourceAttributes.namespace", asked, "must match metadata.namespace")
    if path is not None:
        yield invalid_value("spec.nonResourceAttributes", path, "disallowed on this kind of request")


def attributes_of(spec: Object) -> Attributes:
    """What a SubjectAccessReview asks about."""
    path = spec.get("nonResourceAttributes")
    if path is not None:
        return Attributes(path.get("verb", ""), path=path.get("path", ""))
    asked = meta.part(spec, "resourceAttributes")
    named = ("group", "version", "resource", "subresource", "namespace", "name")
    terms, _ = _field_terms(meta.part(asked, "fieldSelector"))
    return Attributes(asked.get("verb", ""), "", *(asked.get(f, "") for f in named), fields=tuple(terms))


def _field_terms(selector: Object) -> tuple[list[FieldTerm], bool]:
    """What of the selector can be used, and whether that is all of it: with less, more is asked for."""
    if raw := selector.get("rawSelector"):
        try:
            return list(parse_field_selector(raw)), True
        except ApiError:
            return [], False
    requirements = meta.items(selector, "requirements")
    usable = [r for r in requirements if r.get("operator") in ("In", "NotIn") and len(r.get("values") or ()) == 1]
    terms = [FieldTerm(r["key"], r["values"][0], r["operator"] == "In") for r in usable]
    return terms, len(terms) == len(requirements)


def _label_terms(selector: Object) -> tuple[list[Object], bool]:
    """As `_field_terms`; nobody here decides by labels."""
    if raw := selector.get("rawSelector"):
        try:
            parse_label_selector(raw)
        except ApiError:
            return [], False
        return [], True
    requirements = meta.items(selector, "requirements")
    usable = [r for r in requirements if r.get("operator") in ("In", "NotIn", "Exists", "DoesNotExist")]
    return usable, len(usable) == len(requirements)


def _ignored(asked: Object) -> str:
    """Which selectors could not be used, or not wholly; `""` if all were."""
    at = "spec.resourceAttributes"
    found = (
        (f"{at}.fieldSelector", *_field_terms(meta.part(asked, "fieldSelector"))),
        (f"{at}.labelSelector", *_label_terms(meta.part(asked, "labelSelector"))),
    )
    partly = (
        f"{path}{' partially' if terms else ''} ignored due to parse error" for path, terms, whole in found if not whole
    )
    return "; ".join(partly)


def user_info(user: User) -> Object:
    info: Object = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


def _ordered(rule: Rule) -> dict[str, Any]:
    fields = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
    return {f: rule[f] for f in fields if rule.get(f)}


def token_creator(server: ApiServer, tokens: ServiceAccountTokens) -> Creator:
    """`serviceaccounts/NAME/token`."""
    body = Resource(
        group=AUTHENTICATION,
        version="v1",
        kind="TokenRequest",
        plural="tokenrequests",
        singular="tokenrequest",
        namespaced=True,
        schema="io.k8s.api.authentication.v1.TokenRequest",
        verbs=frozenset({"create"}),
    )
    reader = server.registry.reader

    async def create(namespace: str, name: str, request: Object, call: Call) -> Object:
        metadata = {**meta.metadata(request)}
        place_in_namespace(metadata, namespace, namespaced=True)
        if (given := metadata.get("name", name)) != name:
            error = invalid_value("metadata.name", given, "must match the service account name if specified")
            raise invalid("TokenRequest", AUTHENTICATION, name, [error])
        account = reader.get("serviceaccounts", namespace, name)
        if account is None:
            raise not_found("serviceaccounts", "", name)
        uid = meta.uid(account)
        if metadata.get("uid", uid) != uid:
            why = f"the UID in the token request ({metadata['uid']}) does not match the UID of the service account"
            raise conflict("TokenRequest", AUTHENTICATION, name, f"{why} ({uid})")
        spec = {**meta.spec(request)}
        spec["audiences"] = list(spec.get("audiences") or [AUDIENCE])
        seconds = spec.get("expirationSeconds")
        spec["expirationSeconds"] = seconds = DEFAULT_SECONDS if seconds is None else seconds
        spec.setdefault("boundObjectRef", None)
        _check_seconds(seconds)
        bindings = _bindings(reader, namespace, name, spec["boundObjectRef"]) if spec["boundObjectRef"] else []
        defaulted = {**request, "spec": {**meta.spec(request), "expirationSeconds": seconds}}
        tracked = server.registry.track(body, None, defaulted, call, "token")
        issued = tokens.issue(namespace, name, uid, audiences=spec["audiences"], seconds=seconds, bindings=bindings)
        ends = datetime.fromtimestamp(issued.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "kind": body.kind,
            "apiVersion": body.api_version,
            "metadata": {
                **metadata,
                "name": name,
                "namespace": namespace,
                "uid": uid,
                "creationTimestamp": server.registry.clock().strftime("%Y-%m-%dT%H:%M:%SZ"),
                "managedFields": meta.metadata(tracked).get("managedFields"),
            },
            "spec": spec,
            "status": {"token": issued.token, "expirationTimestamp": ends},
        }

    return Creator(body, create)


def _check_seconds(seconds: int) -> None:
    why = ""
    if seconds < SHORTEST:
        why = "may not specify a duration less than 10 minutes"
    elif seconds > LONGEST:
        why = "may not specify a duration larger than 2^32 seconds"
    if why:
        raise invalid("TokenRequest", AUTHENTICATION, "", [invalid_value("spec.expirationSeconds", seconds, why)])


def _bindings(reader: Reader, namespace: str, account: str, reference: Object) -> list[Binding]:
    """What the token is bound to; of a pod that has its node, that too (KEP-4193)."""
    kind, name = reference.get("kind", ""), reference.get("name", "")
    group, _, version = reference.get("apiVersion", "").rpartition("/")
    plural = BINDABLE.get(kind) if not group else None
    if plural is None:
        raise bad_request(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
    bound = reader.get(plural, "" if kind == "Node" else namespace, name)
    if bound is None:
        raise not_found(plural, "", name)
    if kind == "Pod" and meta.spec(bound).get("serviceAccountName") != account:
        why = (
            f"cannot bind token for serviceaccount {quoted(account)} to pod running with different serviceaccount name."
        )
        raise bad_request(why)
    uid, wanted = meta.uid(bound), reference.get("uid")
    if wanted and wanted != uid:
        why = f"the UID in the bound object reference ({wanted}) does not match the UID in record. "
        raise conflict(kind, "", name, f"{why}The object might have been deleted and then recreated")
    bindings = [Binding(kind, name, uid)]
    if kind == "Pod" and (node_name := meta.spec(bound).get("nodeName")):
        node = reader.get("nodes", "", node_name)
        bindings.append(Binding("Node", node_name, meta.uid(node) if node is not None else ""))
    return bindings
