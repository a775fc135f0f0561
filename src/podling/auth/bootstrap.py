"""The roles and bindings that a cluster begins with, as objects; `bootstrap-policy.txt` holds them as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files

from podling.auth.rbac import GROUP, Rule
from podling.store.types import Object

ABBREVIATIONS = {
    "@read": "get list watch",
    "@write": "create delete deletecollection patch update",
    "@event": "create patch update | core,events.k8s.io | events",
}
AUTO_UPDATE = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
BOOTSTRAPPING = {"kubernetes.io/bootstrapping": "rbac-defaults"}


def objects() -> Iterator[tuple[str, Object]]:
    """All of them, each with its resource: `("clusterroles.rbac.authorization.k8s.io", {...})`."""
    yield from parse(files("podling.auth").joinpath("bootstrap-policy.txt").read_text())


def rules_of(role: str) -> Sequence[Rule]:
    """The rules of one of its cluster roles."""
    found = (obj for _, obj in objects() if obj["kind"] == "ClusterRole" and obj["metadata"]["name"] == role)
    return next(found)["rules"]


def parse(table: str) -> Iterator[tuple[str, Object]]:
    role: Object | None = None
    for line in table.splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if line.startswith(" "):
            assert role is not None, f"a rule without a role: {line}"
            role["rules"].append(_rule(text))
            continue
        if role is not None:
            yield _resource(role), role
            role = None
        words = text.split()
        if words[0] == "bind":
            binding = _binding(words[1:])
            yield _resource(binding), binding
            continue
        if words[0] == "controller":
            name = f"system:controller:{words[1]}"
            binding = _binding([name, ":", f"account:kube-system:{words[1]}"])
            yield _resource(binding), binding
            words[1] = name
        role = _role(words[1], dict(word.split("=") for word in words[2:]))
    if role is not None:
        yield _resource(role), role


def _resource(obj: Object) -> str:
    return f"{obj['kind'].lower()}s.{GROUP}"


def _role(place: str, options: dict[str, str]) -> Object:
    namespace, name = _place(place)
    role = _object("Role", namespace, name)
    if source := options.get("aggregates"):
        label = {f"{GROUP}/aggregate-to-{source}": "true"}
        role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": label}]}
    if target := options.get("aggregate-to"):
        role["metadata"]["labels"][f"{GROUP}/aggregate-to-{target}"] = "true"
    role["rules"] = []
    return role


def _binding(words: list[str]) -> Object:
    colon = words.index(":")
    namespace, role = _place(words[0])
    binding = _object("RoleBinding", namespace, words[1] if colon == 2 else role)
    binding["roleRef"] = {"apiGroup": GROUP, "kind": "Role" if namespace else "ClusterRole", "name": role}
    subjects = [_subject(word) for word in words[colon + 1 :]]
    if subjects:
        binding["subjects"] = subjects
    return binding


def _object(kind: str, namespace: str, name: str) -> Object:
    place = {"namespace": namespace} if namespace else {}
    metadata = {"annotations": {**AUTO_UPDATE}, "labels": {**BOOTSTRAPPING}, "name": name, **place}
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": kind if namespace else f"Cluster{kind}",
        "metadata": metadata,
    }


def _place(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    return (namespace, name) if slash else ("", text)


def _subject(word: str) -> Object:
    kind, _, name = word.partition(":")
    if kind == "account":
        namespace, _, name = name.partition(":")
        return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return {"apiGroup": GROUP, "kind": kind.title(), "name": name}


def _rule(text: str) -> Object:
    for short, long in ABBREVIATIONS.items():
        text = text.replace(short, long)
    verbs, *rest = (part.split() for part in text.split("|"))
    if len(rest) == 1:
        return {"nonResourceURLs": rest[0], "verbs": verbs}
    groups = ["" if group == "core" else group for group in rest[0][0].split(",")]
    rule: Object = {"apiGroups": groups, "resources": rest[1], "verbs": verbs}
    if len(rest) == 3:
        rule["resourceNames"] = rest[2]
    return rule
