"""A service-account token is good as long as its signature, its time, and what it is bound to."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from joserfc.jwk import ECKey

from podling.auth.tokens import AUDIENCE, Binding, InvalidToken, ServiceAccountTokens
from podling.store.types import Object


@dataclass
class World:
    """Objects by (resource, namespace, name), and the time."""

    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict[tuple[str, str, str], Object])
    now: float = 1_000_000.0

    def add(self, resource: str, namespace: str, name: str, uid: str) -> None:
        self.objects[resource, namespace, name] = {"metadata": {"name": name, "namespace": namespace, "uid": uid}}

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((resource, namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Object]:
        return [o for (r, n, _), o in self.objects.items() if r == resource and namespace in (None, n)]


@pytest.fixture
def world() -> World:
    world = World()
    world.add("serviceaccounts", "shop", "cart", "sa-1")
    world.add("pods", "shop", "cart-1", "pod-1")
    return world


@pytest.fixture
def tokens(world: World) -> ServiceAccountTokens:
    return ServiceAccountTokens(ECKey.generate_key("P-256"), world, lambda: world.now)


def issue(tokens: ServiceAccountTokens, **options: Any) -> str:
    return tokens.issue("shop", "cart", "sa-1", **{"audiences": [AUDIENCE], "seconds": 3600, **options}).token


def test_a_token_names_its_service_account_and_groups(tokens: ServiceAccountTokens) -> None:
    user, audiences, _ = tokens.authenticate(issue(tokens))
    assert user.name == "system:serviceaccount:shop:cart"
    assert user.uid == "sa-1"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated")
    assert audiences == [AUDIENCE]


def test_it_ends(tokens: ServiceAccountTokens, world: World) -> None:
    token = issue(tokens, seconds=600)
    world.now += 660
    tokens.authenticate(token)  # clocks differ by up to a minute
    world.now += 1
    with pytest.raises(InvalidToken, match="expired"):
        tokens.authenticate(token)


def test_it_ends_with_its_pod(tokens: ServiceAccountTokens, world: World) -> None:
    token = issue(tokens, bindings=[Binding("Pod", "cart-1", "pod-1")])
    user = tokens.authenticate(token).user
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("cart-1",)
    world.add("pods", "shop", "cart-1", "pod-2")
    with pytest.raises(InvalidToken, match=r"pod UID \(pod-2\) does not match service account pod ref claim \(pod-1\)"):
        tokens.authenticate(token)
    del world.objects["pods", "shop", "cart-1"]
    with pytest.raises(InvalidToken, match="service account token has been invalidated"):
        tokens.authenticate(token)


def test_a_pod_that_is_being_deleted_keeps_its_token_for_a_minute(tokens: ServiceAccountTokens, world: World) -> None:
    token = issue(tokens, bindings=[Binding("Pod", "cart-1", "pod-1")])
    world.objects["pods", "shop", "cart-1"]["metadata"]["deletionTimestamp"] = "1970-01-12T13:46:40Z"
    world.now += 60
    tokens.authenticate(token)
    world.now += 1
    with pytest.raises(InvalidToken, match="invalidated"):
        tokens.authenticate(token)


def test_it_ends_with_its_service_account(tokens: ServiceAccountTokens, world: World) -> None:
    token = issue(tokens)
    tokens.authenticate(token)
    del world.objects["serviceaccounts", "shop", "cart"]
    with pytest.raises(InvalidToken, match='serviceaccounts "cart" not found'):
        tokens.authenticate(token)
    world.add("serviceaccounts", "shop", "cart", "sa-2")
    with pytest.raises(InvalidToken, match=r"service account UID \(sa-2\) does not match claim \(sa-1\)"):
        tokens.authenticate(token)


def test_it_is_only_for_its_audiences(tokens: ServiceAccountTokens) -> None:
    token = issue(tokens, audiences=["vault"])
    with pytest.raises(InvalidToken, match=r'token audiences \["vault"\] is invalid for the target audiences \["https'):
        tokens.authenticate(token)
    assert tokens.authenticate(token, ["vault", "other"])[1] == ["vault"]


def test_another_key_s_token_is_refused(tokens: ServiceAccountTokens, world: World) -> None:
    stranger = ServiceAccountTokens(ECKey.generate_key("P-256"), world, lambda: world.now)
    with pytest.raises(InvalidToken):
        tokens.authenticate(issue(stranger))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "é" * 40])
def test_what_is_no_token_is_refused(tokens: ServiceAccountTokens, token: str) -> None:
    with pytest.raises(InvalidToken):
        tokens.authenticate(token)


@pytest.fixture
def secret_token(tokens: ServiceAccountTokens, world: World) -> str:
    """That of the Secret `cart-token`."""
    world.add("secrets", "shop", "cart-token", "s-1")
    token = tokens.issue_legacy("shop", "cart", "sa-1", "cart-token")
    world.objects["secrets", "shop", "cart-token"]["data"] = {"token": b64encode(token.encode()).decode()}
    return token


def test_a_secret_s_token_lives_as_long_as_the_secret_holds_it(
    tokens: ServiceAccountTokens, world: World, secret_token: str
) -> None:
    assert tokens.authenticate(secret_token).user.name == "system:serviceaccount:shop:cart"
    secret = world.objects["secrets", "shop", "cart-token"]
    secret["data"] = {"token": "bmV3"}
    with pytest.raises(InvalidToken, match="Token does not match server's copy"):
        tokens.authenticate(secret_token)
    secret["metadata"]["deletionTimestamp"] = "1970-01-12T13:46:40Z"
    with pytest.raises(InvalidToken, match="Token has been invalidated"):
        tokens.authenticate(secret_token)
    del world.objects["secrets", "shop", "cart-token"]
    with pytest.raises(InvalidToken, match="Token has been invalidated"):
        tokens.authenticate(secret_token)


def test_a_secret_s_token_may_be_marked_invalid(tokens: ServiceAccountTokens, world: World, secret_token: str) -> None:
    world.objects["secrets", "shop", "cart-token"]["metadata"]["labels"] = {
        "kubernetes.io/legacy-token-invalid-since": "2026-01-01"
    }
    with pytest.raises(InvalidToken, match=r"the token in secret shop/cart-token for .* has been marked invalid"):
        tokens.authenticate(secret_token)


def test_a_secret_that_its_account_names_is_discouraged(
    tokens: ServiceAccountTokens, world: World, secret_token: str
) -> None:
    assert tokens.authenticate(secret_token).warning == ""
    world.objects["serviceaccounts", "shop", "cart"]["secrets"] = [{"name": "cart-token"}]
    assert "auto-generated" in tokens.authenticate(secret_token).warning


def test_a_secret_s_token_is_for_the_api_server_only(tokens: ServiceAccountTokens, secret_token: str) -> None:
    with pytest.raises(InvalidToken, match=r'is invalid for the target audiences \["vault"\]'):
        tokens.authenticate(secret_token, ["vault"])


def test_the_use_of_a_secret_s_token_is_told(world: World) -> None:
    told: list[Object] = []
    tokens = ServiceAccountTokens(ECKey.generate_key("P-256"), world, lambda: world.now, used=told.append)
    token = tokens.issue_legacy("shop", "cart", "sa-1", "cart-token")
    world.add("secrets", "shop", "cart-token", "s-1")
    world.objects["secrets", "shop", "cart-token"]["data"] = {"token": b64encode(token.encode()).decode()}
    tokens.authenticate(token)
    assert told == [world.objects["secrets", "shop", "cart-token"]]


def test_an_ordinary_pod_s_token_is_good_for_a_year_but_should_be_renewed(
    tokens: ServiceAccountTokens, world: World
) -> None:
    issued = tokens.issue(
        "shop", "cart", "sa-1", audiences=[AUDIENCE], seconds=3607, bindings=[Binding("Pod", "cart-1", "pod-1")]
    )
    assert issued.expires == 1_003_607
    claims = json.loads(urlsafe_b64decode(issued.token.split(".")[1] + "=="))
    assert (claims["exp"], claims["kubernetes.io"]["warnafter"]) == (1_000_000 + 365 * 24 * 3600, 1_003_607)


@pytest.mark.parametrize("options", [{"seconds": 7200}, {"seconds": 3607, "audiences": ["vault"]}])
def test_other_tokens_of_pods_end_when_they_say(tokens: ServiceAccountTokens, options: dict[str, Any]) -> None:
    token = issue(tokens, bindings=[Binding("Pod", "cart-1", "pod-1")], **options)
    claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["exp"] == 1_000_000 + options["seconds"]
    assert "warnafter" not in claims["kubernetes.io"]


def test_a_token_bound_to_a_node_ends_with_it(tokens: ServiceAccountTokens, world: World) -> None:
    world.add("nodes", "", "n1", "node-1")
    token = issue(tokens, bindings=[Binding("Node", "n1", "node-1")])
    assert tokens.authenticate(token).user.extra["authentication.kubernetes.io/node-uid"] == ("node-1",)
    del world.objects["nodes", "", "n1"]
    with pytest.raises(InvalidToken, match="service account token has been invalidated"):
        tokens.authenticate(token)


def test_a_pod_s_node_may_be_unknown(tokens: ServiceAccountTokens) -> None:
    token = issue(tokens, bindings=[Binding("Pod", "cart-1", "pod-1"), Binding("Node", "n1", "")])
    extra = tokens.authenticate(token).user.extra
    assert extra["authentication.kubernetes.io/node-name"] == ("n1",)
    assert "authentication.kubernetes.io/node-uid" not in extra


def test_a_token_of_another_key_of_the_same_issuer_has_no_key_here(tokens: ServiceAccountTokens, world: World) -> None:
    stranger = ServiceAccountTokens(ECKey.generate_key("P-256"), world, lambda: world.now)
    with pytest.raises(InvalidToken, match="invalid signature, no keys found"):
        tokens.authenticate(issue(stranger))


def test_a_signature_that_is_wrong_is_said_to_be(tokens: ServiceAccountTokens) -> None:
    head, claims, _ = issue(tokens).split(".")
    _, _, signature = issue(tokens, seconds=700).split(".")
    with pytest.raises(InvalidToken, match="go-jose/go-jose: error in cryptographic primitive"):
        tokens.authenticate(f"{head}.{claims}.{signature}")


def test_a_token_from_the_future_is_refused(tokens: ServiceAccountTokens, world: World) -> None:
    token = issue(tokens)
    world.now -= 61
    with pytest.raises(InvalidToken, match="not valid yet"):
        tokens.authenticate(token)
