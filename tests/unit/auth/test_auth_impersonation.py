"""Who may speak for whom, and as whom a request then counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from podling.api.errors import ApiError
from podling.api.requests import Attributes, Decision
from podling.api.resources import User
from podling.auth.impersonation import Wanted, impersonated, wanted

ALICE = User("alice", ("system:authenticated",))
LIST_PODS = Attributes("list", "", "", "v1", "pods", "", "shop", "")
Rights = set[tuple[str, str, str]]
"""(verb, resource, name); the name `""` stands for any."""


def allowing(*rights: tuple[str, str, str]) -> Callable[[User, Attributes], Decision]:
    def authorize(_user: User, asked: Attributes) -> Decision:
        return Decision(
            (asked.verb, asked.resource, asked.name) in rights or (asked.verb, asked.resource, "") in rights
        )

    return authorize


def speak(target: Wanted, *rights: tuple[str, str, str], sender: User = ALICE) -> User:
    return impersonated(sender, target, LIST_PODS, allowing(*rights))


def refusal(target: Wanted, *rights: tuple[str, str, str], sender: User = ALICE) -> str:
    with pytest.raises(ApiError) as refused:
        speak(target, *rights, sender=sender)
    assert refused.value.code == 403
    return refused.value.message


def test_no_headers_no_impersonation() -> None:
    assert wanted({b"accept": b"*/*"}) is None


def test_headers_name_user_groups_uid_and_extra() -> None:
    headers = {
        b"impersonate-user": b"bob",
        b"impersonate-group": b"cn=dev,dc=shop, ops",
        b"impersonate-uid": b"7",
        b"impersonate-extra-example.com%2fscope": b"view",
    }
    assert wanted(headers) == Wanted("bob", ("cn=dev,dc=shop", "ops"), "7", {"example.com/scope": ("view",)})


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({b"impersonate-group": b"g1, g2"}, 'UID:"", Groups:[]string{"g1", "g2"}, Extra:map[string][]string(nil)'),
        (
            {b"impersonate-extra-foo": b"x"},
            'UID:"", Groups:[]string(nil), Extra:map[string][]string{"foo":[]string{"x"}}',
        ),
        ({b"impersonate-uid": b"u"}, 'UID:"u", Groups:[]string(nil), Extra:map[string][]string(nil)'),
    ],
)
def test_somebody_must_be_named(headers: dict[bytes, bytes], shown: str) -> None:
    with pytest.raises(ApiError) as refused:
        wanted(headers)
    assert refused.value.code == 400
    assert refused.value.message == (
        f'requested &user.DefaultInfo{{Name:"", {shown}}} without impersonating a user name'
    )


def test_the_old_verb_lets_one_speak_for_a_user_everywhere() -> None:
    assert speak(Wanted("bob"), ("impersonate", "users", "bob")) == User("bob", ("system:authenticated",))


def test_the_constrained_verbs_are_needed_together() -> None:
    on, whom = ("impersonate-on:user-info:list", "pods", ""), ("impersonate:user-info", "users", "bob")
    assert speak(Wanted("bob"), on, whom).name == "bob"
    assert refusal(Wanted("bob"), on) == (
        'users.authentication.k8s.io "bob" is forbidden: User "alice" cannot impersonate:user-info resource "users" in '
        'API group "authentication.k8s.io" at the cluster scope'
    )
    assert refusal(Wanted("bob"), whom) == (
        'pods is forbidden: User "alice" cannot impersonate-on:user-info:list resource "pods" in API group "" in the '
        'namespace "shop"'
    )


def test_groups_uid_and_extra_are_rights_of_their_own() -> None:
    target = Wanted("bob", ("ops",), "7", {"example.com/scope": ("view",)})
    rights = [
        ("impersonate", "users", "bob"),
        ("impersonate", "groups", "ops"),
        ("impersonate", "uids", "7"),
        ("impersonate", "userextras", "view"),
    ]
    assert speak(target, *rights).groups == ("ops", "system:authenticated")
    for missing in rights:
        assert "is forbidden" in refusal(target, *(r for r in rights if r != missing))


def test_a_service_account_has_its_groups() -> None:
    target = Wanted("system:serviceaccount:shop:cart")
    user = speak(target, ("impersonate", "serviceaccounts", "cart"))
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated")
    assert "cannot impersonate-on:serviceaccount:list" in refusal(target)


def test_a_name_that_is_no_service_account_is_a_plain_user() -> None:
    target = Wanted("system:serviceaccount:bad")
    assert speak(target, ("impersonate", "users", "")).groups == ("system:authenticated",)


def test_a_pod_may_be_allowed_to_speak_for_its_own_node_only() -> None:
    on = ("impersonate-on:associated-node:list", "pods", "")
    rights = (on, ("impersonate:associated-node", "nodes", "*"))
    agent = User("system:serviceaccount:kube-system:agent", (), "", {"authentication.kubernetes.io/node-name": ("n1",)})
    assert speak(Wanted("system:node:n1"), *rights, sender=agent).groups == ("system:nodes", "system:authenticated")
    assert "impersonate-on:arbitrary-node:list" in refusal(Wanted("system:node:n2"), *rights, sender=agent)


def test_the_anonymous_user_is_not_authenticated() -> None:
    assert speak(Wanted("system:anonymous"), ("impersonate", "users", "")).groups == ("system:unauthenticated",)


ON = ("impersonate-on:user-info:list", "pods", "")
BOB = ("impersonate:user-info", "users", "bob")
FORBIDDEN = 'is forbidden: User "alice" cannot impersonate:user-info resource'


@pytest.mark.parametrize(
    ("target", "resource", "why"),
    [
        (Wanted("bob", ("",)), "groups", "impersonating the empty string group is not allowed"),
        (Wanted("bob", ("system:masters",)), "groups", "impersonating the system:masters group is not allowed"),
        (
            Wanted("bob", extra={"scope": ("view",)}),
            "userextras",
            'impersonating an invalid key in extra is not allowed: extra.key: Invalid value: "scope": must be a '
            'domain-prefixed path (such as "acme.io/foo")',
        ),
        (Wanted("bob", extra={"": ("x",)}), "userextras", "impersonating the empty string key in extra is not allowed"),
        (
            Wanted("bob", extra={"a.io/b": ("",)}),
            "userextras",
            "impersonating the empty string value in extra is not allowed",
        ),
    ],
)
def test_the_constrained_verbs_do_not_give_everything(target: Wanted, resource: str, why: str) -> None:
    every = [("impersonate:user-info", word, "") for word in ("users", "groups", "userextras")]
    message = refusal(target, ON, *every)
    group = 'in API group "authentication.k8s.io" at the cluster scope'
    assert message.startswith(f"{resource}.authentication.k8s.io ")
    assert message.endswith(f'{FORBIDDEN} "{resource}" {group}: {why}')


def test_many_groups_are_asked_about_at_once() -> None:
    target = Wanted("bob", ("a", "b", "c", "d"))
    assert speak(target, ON, BOB, ("impersonate:user-info", "groups", "*")).groups[:4] == target.groups
    few = Wanted("bob", ("a", "b", "c"))
    assert '"a" is forbidden' in refusal(few, ON, BOB, ("impersonate:user-info", "groups", "*"))


def test_the_uid_is_asked_about_before_the_groups() -> None:
    assert "uids" in refusal(Wanted("bob", ("ops",), "7"), ON, BOB)


def test_who_is_said_to_be_unauthenticated_is_nothing_else() -> None:
    target = Wanted("bob", ("system:unauthenticated",))
    assert speak(target, ("impersonate", "users", ""), ("impersonate", "groups", "")).groups == target.groups


def test_what_cannot_be_a_node_s_name_is_a_plain_user() -> None:
    assert "impersonate-on:user-info:list" in refusal(Wanted("system:node:No_Node"))
