"""The names of users and groups that Kubernetes itself gives, and how a service account's is made."""

from __future__ import annotations

from collections.abc import Mapping

from podling.api.resources import User

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"
"""May do everything, whatever the roles say."""
NODES = "system:nodes"
NODE_PREFIX = "system:node:"
LEASES = "kube-node-lease"
"""The namespace of the nodes' leases."""
SERVICE_ACCOUNTS = "system:serviceaccounts"
PREFIX = "system:serviceaccount:"
ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))
CREDENTIAL = "authentication.kubernetes.io/credential-id"
"""The extra that tells by which certificate or token somebody was recognised."""


def service_account_of(user: str) -> tuple[str, str] | None:
    """Namespace and name of the service account that the user is."""
    namespace, colon, name = user.removeprefix(PREFIX).partition(":")
    if not user.startswith(PREFIX) or not colon or not namespace or not name or ":" in name:
        return None
    return namespace, name


def service_account_user(namespace: str, name: str, uid: str, extra: Mapping[str, tuple[str, ...]]) -> User:
    groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}", AUTHENTICATED)
    return User(f"{PREFIX}{namespace}:{name}", groups, uid, extra)


def component(user: str) -> User:
    """A part of the cluster as its requests would show it: a controller's service account, a kubelet, or by name."""
    account = service_account_of(user)
    if account is not None:
        return service_account_user(*account, "", {})
    return User(user, (NODES, AUTHENTICATED) if user.startswith(NODE_PREFIX) else (AUTHENTICATED,))


def node_of(user: User) -> str | None:
    """The name of the node whose kubelet the user is; `""` for a kubelet without a name, `None` for others."""
    if NODES not in user.groups or not user.name.startswith(NODE_PREFIX):
        return None
    return user.name.removeprefix(NODE_PREFIX)
