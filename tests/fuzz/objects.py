"""Objects to begin with, of every served kind, and ways to break them."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from podling.api.schema import Kind, Node, Schemas

NAMES = tuple(f"fz-{n}" for n in range(12))
SPACES = ("fuzz", "fuzz-2")
_WORDS = (
    *("", "a", "web", "Always", "Never", "RollingUpdate", "ClusterIP", "TCP", "UDP", "ReadWriteOnce", "10.96.0.77"),
    *("127.0.0.1", "10.0.0.0/8", "::1", "*", "app", "app=web", "100m", "1Gi", "-1", "1e3", "0x10", "25%", "80"),
    *("2024-01-01T00:00:00Z", "2024-01-01T00:00:00.000001Z", "9999-12-31T23:59:59Z", "0000-00-00", "5s", "P1D"),
    *("kubernetes.io/x", "x/y/z", ".", "..", "/", "-a", "A_B", "é", "\u202e", "\U0001f4a5", "\x00", "\ud800", "\ufeff"),
    *("true", "null", "NaN", "{}", "self.x > 1", "object.spec == 1", "$(X)", "%s%n", "{{.}}", "~", "<nil>"),
)
"""Never a name or an address beyond this machine: a controller or the kubelet could try it."""
_NUMBERS = (0, 1, -1, 2, 80, 443, 30080, 65535, 65536, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, 2**64, 10**30)
_FLOATS = (0.0, -0.0, 1.5, 1e308, -1e-300, float("nan"), float("inf"), float("-inf"))

_POD: dict[str, Any] = {
    "nodeSelector": {"never": "here"},
    "containers": [{"name": "c", "image": "podling.test/none", "ports": [{"containerPort": 80}]}],
}
_LABELS = {"app": "web"}
_TEMPLATE: dict[str, Any] = {"metadata": {"labels": _LABELS}, "spec": _POD}
_SELECTED: dict[str, Any] = {"selector": {"matchLabels": _LABELS}, "template": _TEMPLATE}
_JOB: dict[str, Any] = {"template": {"spec": {**_POD, "restartPolicy": "Never"}}}
_METRIC = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
VALID: dict[str, dict[str, Any]] = {
    "Pod": {"spec": _POD},
    "ConfigMap": {"data": {"a": "1"}, "binaryData": {"b": "AAE="}},
    "Secret": {"data": {"a": "MQ=="}, "stringData": {"b": "2"}},
    "Service": {"spec": {"selector": _LABELS, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}},
    "Deployment": {"spec": {"replicas": 1, **_SELECTED, "strategy": {"rollingUpdate": {"maxSurge": "25%"}}}},
    "ReplicaSet": {"spec": {"replicas": 1, **_SELECTED}},
    "StatefulSet": {"spec": {"replicas": 1, "serviceName": "s", **_SELECTED}},
    "DaemonSet": {"spec": _SELECTED},
    "ReplicationController": {"spec": {"selector": _LABELS, "template": _TEMPLATE}},
    "Job": {"spec": _JOB},
    "CronJob": {"spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": _JOB}}},
    "HorizontalPodAutoscaler": {
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fz-1"},
            "metrics": [_METRIC],
        }
    },
    "PodDisruptionBudget": {"spec": {"minAvailable": "50%", "selector": {"matchLabels": _LABELS}}},
    "Ingress": {"spec": {"defaultBackend": {"service": {"name": "fz-1", "port": {"number": 80}}}}},
    "NetworkPolicy": {"spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}},
    "Role": {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    "ClusterRole": {"rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]},
    "RoleBinding": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "fz-1"},
        "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}],
    },
    "PersistentVolumeClaim": {
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "x",
        }
    },
    "PersistentVolume": {
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"}}
    },
    "StorageClass": {"provisioner": "x.test/y"},
    "PriorityClass": {"value": 5},
    "ResourceQuota": {"spec": {"hard": {"count/services.x": "5"}}},
    "LimitRange": {"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}},
    "EndpointSlice": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}], "ports": [{"port": 80}]},
    "Lease": {"spec": {"holderIdentity": "x", "renewTime": "2024-01-01T00:00:00.000000Z"}},
    "CustomResourceDefinition": {
        "metadata": {"name": "things.fuzz.test"},
        "spec": {
            "group": "fuzz.test",
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"},
                    },
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "properties": {
                                        "n": {"type": "integer", "minimum": 0, "default": 1},
                                        "s": {"type": "string", "pattern": "^a+$"},
                                        "l": {
                                            "type": "array",
                                            "items": {"type": "string"},
                                            "x-kubernetes-list-type": "set",
                                        },
                                        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                    },
                                    "x-kubernetes-validations": [{"rule": "!has(self.n) || self.n < 100"}],
                                },
                                "status": {"type": "object", "properties": {"n": {"type": "integer"}}},
                            },
                        }
                    },
                }
            ],
        },
    },
    "Thing": {"spec": {"n": 2, "s": "aaa", "l": ["x"], "any": {"x": [1]}}},
}


@dataclass(frozen=True)
class Served:
    """A resource as discovery shows it, with the shape of its objects (None for custom resources)."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str]
    subresources: tuple[str, ...]
    node: Node | None

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def collection(self, namespace: str) -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" if self.namespaced else f"{root}/{self.plural}"


def discovered(fetch: Callable[[str], Any]) -> list[Served]:
    """Every served resource; `fetch` gives the JSON at a path."""
    schemas = Schemas.load()
    roots = [("", "v1", "/api/v1")]
    for group in fetch("/apis")["groups"]:
        roots += [(group["name"], v["version"], f"/apis/{v['groupVersion']}") for v in group["versions"]]
    found: list[Served] = []
    for group, version, path in roots:
        entries = fetch(path).get("resources") or []
        for entry in entries:
            if "/" in entry["name"]:
                continue
            plural, kind = entry["name"], entry["kind"]
            below = tuple(e["name"].partition("/")[2] for e in entries if e["name"].startswith(plural + "/"))
            definition = schemas.definition_of(group, version, kind)
            node = schemas.node(definition) if definition else None
            verbs = frozenset(entry["verbs"])
            found.append(Served(group, version, kind, plural, entry["namespaced"], verbs, below, node))
    return found


def begin(served: Served, rng: random.Random, namespace: str, name: str) -> dict[str, Any]:
    """An object of the kind: a valid one where one is written down, else one after its schema."""
    valid = VALID.get(served.kind)
    if valid is not None and (served.node is None or rng.random() < 0.7):
        body = json.loads(json.dumps(valid))
    elif served.node is not None:
        body = after_schema(served.node, rng)
    else:
        body = {"spec": value(rng)}
    metadata = body.get("metadata")
    kept = metadata if isinstance(metadata, dict) and rng.random() < 0.3 else {}
    own = {"name": valid["metadata"]["name"] if valid and "metadata" in valid else name}
    body |= {"apiVersion": served.api_version, "kind": served.kind, "metadata": {**kept, **own}}
    if served.namespaced:
        body["metadata"]["namespace"] = namespace
    return body


def after_schema(node: Node, rng: random.Random, depth: int = 0) -> Any:
    """A value of the declared shape, with strange contents."""
    if node.kind is Kind.STRUCT:
        if depth > 9:
            return {}
        chance = 0.9 if depth == 0 else 0.5 / (1 + depth / 4)
        fields = node.fields.values()
        return {f.name: after_schema(f.node, rng, depth + 1) for f in fields if f.required or rng.random() < chance}
    if node.kind is Kind.LIST:
        return [after_schema(node.element, rng, depth + 1) for _ in range(rng.randrange(3))]
    if node.kind is Kind.MAP:
        return {rng.choice(_WORDS): after_schema(node.element, rng, depth + 1) for _ in range(rng.randrange(3))}
    if node.kind in (Kind.INTEGER, Kind.NUMBER):
        return rng.choice(_NUMBERS[:10])
    if node.kind is Kind.BOOLEAN:
        return rng.random() < 0.5
    if node.kind is Kind.ANY:
        return value(rng)
    if node.kind is Kind.INT_OR_STRING and rng.random() < 0.5:
        return rng.choice(_NUMBERS[:10])
    return rng.choice(_WORDS)


def word(rng: random.Random) -> str:
    return rng.choice(_WORDS)


def value(rng: random.Random, depth: int = 0) -> Any:
    """Anything that JSON can say, and NaN."""
    pick = rng.randrange(9 if depth < 4 else 6)
    if pick < 3:
        return rng.choice(_WORDS)
    if pick == 3:
        return rng.choice(_NUMBERS)
    if pick == 4:
        return rng.choice((None, True, False))
    if pick == 5:
        return rng.choice(_FLOATS)
    if pick == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(_WORDS): value(rng, depth + 1) for _ in range(rng.randrange(4))}


_SETS = (
    *(
        "f:metadata",
        "f:labels",
        "f:app",
        "f:spec",
        "f:data",
        "f:a",
        ".",
        "f:",
        "f",
        "x:y",
        "",
        "f:containers",
        "f:status",
    ),
    *('k:{"name":"c"}', 'k:{"containerPort":80,"protocol":"TCP"}', "k:{}", "k:[1]", "k:{", 'k:{"name":null}', "k:x"),
    *('v:"x"', "v:1", "v:{", "v:", "v:null", "i:0", "i:-1", "i:x", "i:" + "9" * 5000, "f:\ud800", "f:" + "x" * 300),
)


def managed_fields(rng: random.Random) -> Any:
    """Owners of fields as nobody tracked them."""
    found = [_owner(rng) for _ in range(rng.choice((0, 1, 1, 2, 30)))]
    return mutate(found, rng, rng.choice((0, 0, 1, 2)))


def _owner(rng: random.Random) -> dict[str, Any]:
    return {
        "manager": rng.choice(("a", "b", "c", "", "x" * 300)),
        "operation": rng.choice(("Apply", "Apply", "Update", "x", "")),
        "apiVersion": rng.choice(("v1", "apps/v1", "fuzz.test/v1", "x/y/z", "")),
        "fieldsType": rng.choice(("FieldsV1", "FieldsV1", "FieldsV1", "FieldsV2", "")),
        "time": rng.choice(("2024-01-01T00:00:00Z", "x", None)),
        "subresource": rng.choice(("", "status", "scale", "x")),
        "fieldsV1": _fields(rng),
    }


def _fields(rng: random.Random, depth: int = 0) -> Any:
    if depth == 0 and rng.random() < 0.03:
        found: Any = {}
        for _ in range(rng.choice((100, 900))):
            found = {"f:a": found}
        return found
    if depth > 5 or rng.random() < 0.2:
        return rng.choice(({}, {}, {}, None, "x", 1, []))
    return {rng.choice(_SETS): _fields(rng, depth + 1) for _ in range(rng.randrange(1, 4))}


def mutate(obj: Any, rng: random.Random, times: int) -> Any:
    """Deletes, retypes, renames, repeats or blows up parts of an object, in place; gives it back."""
    for _ in range(times):
        places = list(_places(obj))
        if not places:
            return obj
        parent, key = rng.choice(places)
        rng.choice(_MUTATIONS)(parent, key, rng, places)
    return obj


def _places(obj: Any, depth: int = 0) -> Any:
    if depth > 60:
        return
    if isinstance(obj, dict):
        items: Any = obj.items()
    elif isinstance(obj, list):
        items = enumerate(obj)
    else:
        return
    for key, inner in items:
        yield obj, key
        yield from _places(inner, depth + 1)


def _delete(parent: Any, key: Any, rng: random.Random, places: Any) -> None:
    del parent[key]


def _retype(parent: Any, key: Any, rng: random.Random, places: Any) -> None:
    parent[key] = value(rng)


def _transplant(parent: Any, key: Any, rng: random.Random, places: Any) -> None:
    source, name = rng.choice(places)
    # A copy, for no object may come to hold itself.
    with contextlib.suppress(RecursionError):
        parent[key] = json.loads(json.dumps(source[name]))


def _repeat(parent: Any, key: Any, rng: random.Random, places: Any) -> None:
    if isinstance(parent, list):
        parent.extend([parent[key]] * rng.choice((1, 2, 300)))
    else:
        parent[rng.choice(_WORDS)] = parent[key]


def _blow_up(parent: Any, key: Any, rng: random.Random, places: Any) -> None:
    parent[key] = rng.choice(
        ("x" * 300, "y" * 70_000, ["z"] * 3000, {f"k{n}": "v" for n in range(2000)}, _nested(rng.choice((60, 900))))
    )


def _nested(depth: int) -> Any:
    inner: Any = {}
    for level in range(depth):
        inner = [inner] if level % 2 else {"a": inner}
    return inner


def _wrap(parent: Any, key: Any, rng: random.Random, places: Any) -> None:
    parent[key] = rng.choice(([parent[key]], {"a": parent[key]}))


def _nudge(parent: Any, key: Any, rng: random.Random, places: Any) -> None:
    old = parent[key]
    if isinstance(old, str):
        at = rng.randrange(len(old) + 1)
        parent[key] = old[:at] + rng.choice(_WORDS) + old[at + rng.randrange(2) :]
    elif isinstance(old, int):
        parent[key] = rng.choice((old + 1, -old, str(old), float(old), rng.choice(_NUMBERS)))
    else:
        parent[key] = None


_MUTATIONS = (_delete, _retype, _retype, _transplant, _repeat, _blow_up, _wrap, _nudge, _nudge, _nudge)


def to_json(obj: Any, rng: random.Random) -> bytes:
    """The bytes, now and then with what only bytes can say: repeated keys, broken ends, foreign encodings."""
    text = json.dumps(obj, ensure_ascii=rng.random() < 0.5)
    data = text.encode("utf-8", "surrogatepass")
    roll = rng.random()
    if roll < 0.80:
        return data
    if roll < 0.83:
        return damage(data, rng)
    if roll < 0.85:
        return data.replace(b'"metadata"', b'"metadata":{"name":"twice"},"metadata"', 1)
    if roll < 0.88:
        return b"[" * rng.choice((10, 500, 100_000)) + data
    if roll < 0.90:
        return data.replace(b"1", b"1" + b"0" * rng.choice((20, 400, 5000)), 1)
    if roll < 0.92:
        return text.encode(rng.choice(("utf-16", "utf-32", "utf-7")), "replace")
    if roll < 0.95:
        return data + rng.choice((b"\0", b"{}", b"\n\n", b"]", b"\xff"))
    if roll < 0.98:
        return data.replace(b'"spec"', rng.choice((b'"SPEC"', b'"Spec"', b'"sp\\u0065c"', b'"spec":null,"spec"')), 1)
    return b""


def damage(data: bytes, rng: random.Random) -> bytes:
    """Bytes cut, flipped, doubled, inserted."""
    found = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        if not found:
            break
        at = rng.randrange(len(found))
        pick = rng.randrange(5)
        if pick == 0:
            del found[at:]
        elif pick == 1:
            found[at] ^= 1 << rng.randrange(8)
        elif pick == 2:
            found[at:at] = found[at : at + rng.randrange(40)]
        elif pick == 3:
            found[at:at] = rng.randbytes(rng.randrange(1, 9))
        else:
            del found[at : at + rng.randrange(1, 20)]
    return bytes(found)
