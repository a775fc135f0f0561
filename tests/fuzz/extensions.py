"""What users extend a cluster with, hostile: definitions, and custom resources after them; policies; webhooks.

Each case cleans up behind itself, and what it makes concerns the group `fuzz.test` alone: it must not decide about the
requests of other cases.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from fuzz import objects
from fuzz.expressions import expression
from fuzz.objects import NAMES, SPACES
from fuzz.wire import request

GROUP = "fuzz.test"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_PATTERNS = (
    *("^a+$", "[a-z]+", "(", "[", "a{2,1}", "a{1000}", "\\p{L}", "(?i)a", "(?=a)", "\\1", "(?P<n>a)", "", "x" * 5000),
    *("(a+)+$", "(a|aa)+b", "(.*)*x", "\\d", "[[:alpha:]]", "a**", "\\Q", "\u00e9", "^(?:a|b)*c$"),
)
_FORMATS = ("date-time", "int32", "int64", "byte", "uuid", "ipv4", "cidr", "quantity", "email", "password", "x", "")
_PATHS = (
    ".spec.n",
    ".spec",
    "spec.n",
    ".spec.l[*]",
    ".spec.l[0:9]",
    ".metadata.name",
    "",
    ".",
    ".a['b']",
    ".a[",
    "..n",
)


_COLUMNS = (".spec.n", ".spec.l[*]", ".spec.l[0:9]", ".metadata.creationTimestamp", ".spec", ".spec.a['b']", ".nowhere")


def _rules() -> list[dict[str, Any]]:
    return [{"apiGroups": [GROUP], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}]


def definition(rng: random.Random) -> list[bytes]:
    """A definition of one of a few kinds, then objects of it, old and new."""
    number = rng.randrange(4)
    plural, kind = f"hostiles{number}", f"Hostile{number}"
    names: dict[str, Any] = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": kind + "List"}
    if rng.random() < 0.2:
        names |= {"shortNames": ["h", "hh"], "categories": ["all", rng.choice(("x", "x", objects.word(rng)))]}
    versions = [_version(rng, name, name == "v1") for name in ("v1", "v2")[: rng.choice((1, 1, 2))]]
    scope = rng.choices(("Namespaced", "Cluster", "x"), (40, 2, 1))[0]
    spec: dict[str, Any] = {"group": GROUP, "scope": scope, "names": names, "versions": versions}
    if rng.random() < 0.1:
        spec["conversion"] = rng.choice(({"strategy": "None"}, {"strategy": "Webhook"}, _conversion(rng)))
    if rng.random() < 0.1:
        spec["preserveUnknownFields"] = rng.choice((True, False, None))
    name = f"{plural}.{GROUP}"
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": spec,
    }
    objects.mutate(body, rng, rng.choice((0, 0, 0, 0, 1, 3)))
    schema = _schema_of(versions)
    space = f"/apis/{GROUP}/v1/namespaces/fuzz/{plural}"
    data = json.dumps(body).encode("utf-8", "surrogatepass")
    sent = [request("POST", _DEFINITIONS, data, _JSON)]
    kind_of_patch = rng.choice(("merge-patch+json", "merge-patch+json", "apply-patch+yaml"))
    query = "?fieldManager=f&force=1" if kind_of_patch.startswith("apply") else ""
    sent.append(_patch(f"{_DEFINITIONS}/{name}", body, f"application/{kind_of_patch}", query))
    for _ in range(rng.randrange(4)):
        found = {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": {"name": rng.choice(NAMES[:3])}}
        after = after_openapi(schema, rng)
        found |= {k: v for k, v in after.items() if k not in found} if isinstance(after, dict) else {"spec": after}
        objects.mutate(found, rng, rng.choice((0, 0, 1)))
        sent.append(_any_write(space, found, rng))
    if rng.random() < 0.3:
        sent.append(request("GET", rng.choice((space, f"/openapi/v3/apis/{GROUP}/v1", "/openapi/v2")), b""))
    if rng.random() < 0.1:
        sent.append(request("DELETE", f"{_DEFINITIONS}/{name}"))
    return sent


def _any_write(space: str, obj: dict[str, Any], rng: random.Random) -> bytes:
    data = objects.to_json(obj, rng)
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    path = f"{space}/{name if name in NAMES else 'fz-1'}"
    pick = rng.randrange(4)
    if pick == 0:
        return request("PUT", path, data, _JSON)
    if pick == 1:
        return _patch(path, obj, "application/merge-patch+json")
    if pick == 2:
        return _patch(path, obj, "application/apply-patch+yaml", f"?fieldManager=f&force={rng.choice('01')}")
    return request("POST", space + rng.choice(("", "", "?fieldValidation=Strict")), data, _JSON)


def _version(rng: random.Random, name: str, storage: bool) -> dict[str, Any]:
    root: dict[str, Any] = {
        "type": "object",
        "properties": {"spec": schema(rng), "status": schema(rng, 2), "extra": schema(rng, 1)},
    }
    if rng.random() < 0.3:
        root["x-kubernetes-validations"] = [_validation(rng, "object") for _ in range(rng.randrange(1, 4))]
    version: dict[str, Any] = {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": root}}
    if rng.random() < 0.5:
        scale = {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}
        if rng.random() < 0.1:
            scale[rng.choice((*scale, "labelSelectorPath"))] = rng.choice(_PATHS)
        version["subresources"] = {"status": {}} if rng.random() < 0.5 else {"status": {}, "scale": scale}
    if rng.random() < 0.3:
        types = ("string", "integer", "number", "boolean", "date")
        columns = [{"name": f"C{n}", "type": rng.choice(types), "jsonPath": rng.choice(_COLUMNS)} for n in range(3)]
        version["additionalPrinterColumns"] = objects.mutate(columns, rng, rng.choice((0, 0, 0, 0, 1)))
    if rng.random() < 0.05:
        version["selectableFields"] = [{"jsonPath": rng.choice(_PATHS)} for _ in range(rng.randrange(1, 10))]
    return version


def schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """A structural schema, or nearly one."""
    type_ = rng.choice(("object", "object", "array", "string", "integer", "number", "boolean") if depth < 4 else _FLAT)
    found: dict[str, Any] = {"type": type_}
    if type_ == "object":
        found |= _object(rng, depth)
    elif type_ == "array":
        found |= {"items": schema(rng, depth + 1)}
        if rng.random() < 0.2:
            found["x-kubernetes-list-type"] = rng.choice(("atomic", "atomic", "set", "map", "x"))
            if found["x-kubernetes-list-type"] == "map":
                found["x-kubernetes-list-map-keys"] = rng.choice((["a"], ["a", "b"], [], ["nowhere"]))
    elif type_ == "string" and rng.random() < 0.4:
        found |= rng.choice(
            ({}, {"pattern": rng.choice(_PATTERNS)}, {"format": rng.choice(_FORMATS)}, {"enum": ["a", "b"]})
        )
    for key, choices in _KEYWORDS:
        if rng.random() < 0.012:
            found[key] = rng.choice(choices)
    if rng.random() < 0.12:
        found["default"] = objects.value(rng) if rng.random() < 0.1 else after_openapi(found, rng)
    if rng.random() < 0.05:
        found[rng.choice(("allOf", "anyOf", "oneOf"))] = [_demand(rng) for _ in range(rng.randrange(1, 4))]
    if rng.random() < 0.03:
        found["not"] = _demand(rng)
    if rng.random() < 0.15:
        found["x-kubernetes-validations"] = [_validation(rng, type_) for _ in range(rng.randrange(1, 3))]
    return found


def _demand(rng: random.Random) -> dict[str, Any]:
    """What may stand below `anyOf`, and now and then what may not: a type."""
    named = {"properties": {"a": {"maxLength": 1}, "n": {"minimum": 1}}}
    found = rng.choice(
        ({"required": ["a"]}, {"minimum": 1}, {"pattern": "^a"}, {"maxItems": 2}, named, {"enum": ["a", 1]})
    )
    return schema(rng, 4) if rng.random() < 0.1 else found


_FLAT = ("string", "integer", "number", "boolean")
_SOUND = {
    "object": ("true", "self == self", "dyn(self) == dyn({})", "self == oldSelf", "[self].all(x, x == self)"),
    "array": ("self.all(x, true)", "self.size() < 9", "self.exists_one(x, x == x)", "self.map(x, x).size() > 0"),
    "string": (
        "self.size() < 99",
        "self.matches('^a+$')",
        "self.matches('(a+)+$')",
        "self == oldSelf",
        "self in ['a']",
    ),
    "integer": ("self >= 0", "self < 100 || self == oldSelf", "10 / self > 1", "self + 9223372036854775807 > 0"),
    "number": ("self >= 0.0", "double(self) < 1e300", "string(self) != ''"),
    "boolean": ("self || !self", "self == oldSelf"),
}
"""Rules that are well typed, mostly: what an expression at random hardly ever is."""
_KEYWORDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("nullable", (True, False, "x")),
    ("minimum", (0, -1, 1e308, "x")),
    ("maximum", (0, 10, 1e308)),
    ("exclusiveMinimum", (True, False)),
    ("multipleOf", (1, 0, 0.1, -1, 1e-300)),
    ("minLength", (0, 1, 10**9)),
    ("maxLength", (0, 10, 10**9)),
    ("minItems", (0, 1, 10**6)),
    ("maxItems", (0, 3, 10**6)),
    ("uniqueItems", (True, False)),
    ("minProperties", (0, 1)),
    ("maxProperties", (0, 1)),
    ("required", (["a"], ["a", "a"], ["nowhere"], [])),
    ("enum", ([], [1, "a", None, {}], [[1]], ["a"] * 500)),
    ("x-kubernetes-preserve-unknown-fields", (True, False)),
    ("x-kubernetes-int-or-string", (True,)),
    ("x-kubernetes-embedded-resource", (True,)),
    ("x-kubernetes-map-type", ("atomic", "granular", "x")),
    ("$ref", ("#/x", "file:///etc/passwd")),
    ("title", ("x" * 3000,)),
    ("example", ({"a": 1},)),
    ("x-unknown", (1,)),
)


def _object(rng: random.Random, depth: int) -> dict[str, Any]:
    pick = rng.randrange(10)
    if pick == 0:
        return {"additionalProperties": rng.choice((True, False, schema(rng, depth + 1)))}
    if pick == 1:
        return {"x-kubernetes-preserve-unknown-fields": True}
    names = [*(rng.choice(("a", "b", "n", "s", "l", "any")) for _ in range(rng.randrange(5)))]
    if rng.random() < 0.1:
        names.append(objects.word(rng))
    return {"properties": {name: schema(rng, depth + 1) for name in names}}


def _validation(rng: random.Random, type_: str) -> dict[str, Any]:
    sound = rng.random() < 0.8
    rule: dict[str, Any] = {"rule": rng.choice(_SOUND.get(type_, ("true",))) if sound else expression(rng)}
    if rng.random() < 0.2:
        rule["messageExpression"] = rng.choice(("'a' + 'b'", "'x'.replace('x', 'y')", "''", expression(rng, 4)))
    for key, choices in _RULE_KEYWORDS:
        if rng.random() < 0.04:
            rule[key] = rng.choice(choices)
    return rule


_RULE_KEYWORDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("message", ("no", "a\nb", "", "x" * 3000)),
    ("reason", ("FieldValueRequired", "FieldValueInvalid", "x")),
    ("fieldPath", (".a", "x")),
    ("optionalOldSelf", (True, False)),
)


def _schema_of(versions: list[dict[str, Any]]) -> Any:
    held = versions[0].get("schema") if versions and isinstance(versions[0], dict) else None
    return held.get("openAPIV3Schema", {}) if isinstance(held, dict) else {}


def after_openapi(schema: Any, rng: random.Random, depth: int = 0) -> Any:
    """A value after a schema, mostly."""
    if not isinstance(schema, dict) or depth > 8 or rng.random() < 0.03:
        return objects.value(rng)
    if isinstance(choices := schema.get("enum"), list) and choices:
        return rng.choice(choices)
    type_ = schema.get("type")
    if type_ == "object":
        properties = schema.get("properties")
        shown = properties.items() if isinstance(properties, dict) else ()
        found = {k: after_openapi(v, rng, depth + 1) for k, v in shown if rng.random() < 0.8}
        return found if found or rng.random() < 0.5 else {objects.word(rng): objects.value(rng)}
    if type_ == "array":
        many = rng.choice((0, 1, 2, 2, 50))
        return [after_openapi(schema.get("items"), rng, depth + 1) for _ in range(many)]
    if type_ == "integer":
        return rng.choice((0, 1, 5, -1, 2**31, 2**63 - 1))
    if type_ == "number":
        return rng.choice((0, 1.5, -1, 1e308))
    if type_ == "boolean":
        return rng.random() < 0.5
    return rng.choice(("a", "aaa", "b", "", "2024-01-01T00:00:00Z", "1Gi", "10.0.0.1", "x" * 2000, objects.word(rng)))


def policy(rng: random.Random) -> list[bytes]:
    """A policy with its binding, objects that it judges, and its end."""
    name = rng.choice(NAMES)
    kind = rng.choice(("ValidatingAdmissionPolicy", "MutatingAdmissionPolicy"))
    plural = kind.lower().replace("policy", "policies")
    spec: dict[str, Any] = {
        "failurePolicy": rng.choice(("Ignore", "Fail")),
        "matchConstraints": {"resourceRules": _rules()},
        "variables": [{"name": "v", "expression": expression(rng)}],
    }
    if kind == "ValidatingAdmissionPolicy":
        spec["validations"] = [_judgement(rng) for _ in range(rng.randrange(1, 4))]
        if rng.random() < 0.3:
            spec["auditAnnotations"] = [{"key": "k", "valueExpression": expression(rng)}]
    else:
        spec |= {"reinvocationPolicy": rng.choice(("Never", "IfNeeded")), "mutations": [_mutation(rng)]}
    if rng.random() < 0.3:
        spec["matchConditions"] = [{"name": "c", "expression": expression(rng)}]
    binding: dict[str, Any] = {"policyName": name}
    if kind == "ValidatingAdmissionPolicy":
        binding["validationActions"] = rng.choice((["Deny"], ["Warn", "Audit"], []))
    if rng.random() < 0.2:
        spec["paramKind"] = rng.choice(({"apiVersion": "v1", "kind": "ConfigMap"}, {"apiVersion": "x/y/z", "kind": ""}))
        binding["paramRef"] = {"name": "fz-1", "parameterNotFoundAction": "Allow", "namespace": "fuzz"}
    made = [(plural, kind, spec), (f"{kind.lower()}bindings", f"{kind}Binding", binding)]
    return _while_there(made, name, rng)


def _judgement(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {"expression": expression(rng)}
    if rng.random() < 0.3:
        found["messageExpression"] = expression(rng)
    if rng.random() < 0.2:
        found["reason"] = rng.choice(("Forbidden", "Unauthorized", "RequestEntityTooLarge", "x"))
    return found


def _mutation(rng: random.Random) -> dict[str, Any]:
    value = expression(rng, 3)
    text = rng.choice((f"Object{{spec: {value}}}", f"Object{{spec: Object.spec{{n: {value}}}}}", value))
    if rng.random() < 0.5:
        return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}}
    path = rng.choice(("/spec/n", "/metadata/labels", "/metadata/name", "/spec/l/-", "", "/~2", "/spec/any/x"))
    operation = (
        f"JSONPatch{{op: '{rng.choice(('add', 'replace', 'remove', 'move', 'x'))}', path: '{path}', value: {value}}}"
    )
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": rng.choice((f"[{operation}]", operation, value))}}


def webhook(rng: random.Random) -> list[bytes]:
    """A configuration of a webhook that nobody can reach, objects that it concerns, and its end."""
    kind = rng.choice(("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"))
    hook: dict[str, Any] = {
        "name": rng.choice(("a.fuzz.test", "a.fuzz.test", "x", objects.word(rng))),
        "clientConfig": _client(rng),
        "rules": _rules(),
        "admissionReviewVersions": rng.choice((["v1"], ["v1", "v1beta1"], ["v9"], [])),
        "sideEffects": rng.choice(("None", "None", "NoneOnDryRun", "Some", "x")),
        "failurePolicy": rng.choice(("Ignore", "Fail")),
        "timeoutSeconds": rng.choice((1, 1, 0, 31)),
        "matchPolicy": rng.choice(("Exact", "Equivalent")),
    }
    if rng.random() < 0.4:
        hook["matchConditions"] = [
            {"name": f"c{n}", "expression": expression(rng)} for n in range(rng.choice((1, 1, 70)))
        ]
    if rng.random() < 0.3:
        hook["objectSelector"] = {"matchExpressions": [{"key": "a", "operator": rng.choice(("In", "Exists", "x"))}]}
    if kind.startswith("Mutating"):
        hook["reinvocationPolicy"] = rng.choice(("Never", "IfNeeded", "x"))
    objects.mutate(hook, rng, rng.choice((0, 0, 0, 1)))
    if isinstance(hook.get("rules"), list):
        hook["rules"] = _rules()
    return _while_there(
        [(kind.lower() + "s", kind, {"webhooks": [hook] * rng.choice((1, 1, 2))})], rng.choice(NAMES), rng
    )


def _client(rng: random.Random) -> dict[str, Any]:
    service = {
        "name": "nobody",
        "namespace": "fuzz",
        "path": rng.choice(("/x", "x", "/a//b")),
        "port": rng.choice((443, 0)),
    }
    where = rng.choice(({"url": "https://127.0.0.1:1/x"}, {"url": rng.choice(_URLS)}, {"service": service}, {}))
    return {**where, "caBundle": rng.choice(("", "Cg==", "x", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg=="))}


_URLS = (
    "http://127.0.0.1:1/",
    "https://",
    "https://127.0.0.1:99999/",
    "https://u:p@127.0.0.1:1/?a=b#c",
    "x",
    "https://[::1",
)


def _conversion(rng: random.Random) -> dict[str, Any]:
    return {"strategy": "Webhook", "webhook": {"clientConfig": _client(rng), "conversionReviewVersions": ["v1"]}}


def _while_there(made: list[tuple[str, str, dict[str, Any]]], name: str, rng: random.Random) -> list[bytes]:
    """Makes what admission is configured with, writes what it decides about, and takes it away."""
    sent: list[bytes] = []
    for plural, kind, held in made:
        body: dict[str, Any] = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
        }
        body |= held if "webhooks" in held else {"spec": held}
        sent.append(request("POST", f"{_ADMISSION}/{plural}", json.dumps(body).encode(), _JSON))
    space = f"/apis/{GROUP}/v1/namespaces/{rng.choice(SPACES)}/things"
    for _ in range(rng.randrange(1, 4)):
        thing = {"apiVersion": f"{GROUP}/v1", "kind": "Thing", "metadata": {"name": rng.choice(NAMES[:3])}}
        thing |= json.loads(json.dumps(objects.VALID["Thing"]))
        sent.append(_any_write(space, objects.mutate(thing, rng, rng.choice((0, 0, 1))), rng))
    return [*sent, *(request("DELETE", f"{_ADMISSION}/{plural}/{name}") for plural, _, _ in made)]


_JSON = (("Content-Type", "application/json"),)


def _patch(path: str, body: Any, kind: str, query: str = "") -> bytes:
    data = json.dumps(body).encode("utf-8", "surrogatepass")
    return request("PATCH", path + query, data, (("Content-Type", kind),))


KINDS: tuple[Callable[[random.Random], list[bytes]], ...] = (definition, policy, webhook)
