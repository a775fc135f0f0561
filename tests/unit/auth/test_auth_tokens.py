"""A service-account token is good as long as its signature, its time, and what it is bound to."""

from __future__ import annotations

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
    user, audiences = tokens.authenticate(issue(tokens))
    assert user.name == "system:serviceaccount:shop:cart"
    assert user.uid == "sa-1"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated")
    assert audiences == [AUDIENCE]


def test_it_ends(tokens: ServiceAccountTokens, world: World) -> None:
    token = issue(tokens, seconds=600)
    world.now += 599
    tokens.authenticate(token)
    world.now += 1
    with pytest.raises(InvalidToken, match="expired"):
        tokens.authenticate(token)


def test_it_ends_with_its_pod(tokens: ServiceAccountTokens, world: World) -> None:
    token = issue(tokens, bindings=[Binding("Pod", "cart-1", "pod-1")])
    user, _ = tokens.authenticate(token)
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


def test_a_secret_s_token_lives_as_long_as_the_secret(tokens: ServiceAccountTokens, world: World) -> None:
    world.add("secrets", "shop", "cart-token", "s-1")
    token = tokens.issue_legacy("shop", "cart", "sa-1", "cart-token")
    assert tokens.authenticate(token)[0].name == "system:serviceaccount:shop:cart"
    del world.objects["secrets", "shop", "cart-token"]
    with pytest.raises(InvalidToken, match="invalidated"):
        tokens.authenticate(token)
