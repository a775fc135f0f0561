"""Protobuf bodies: written here by the same numbers, read as JSON would be, and no bytes may break the reader."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import decode, protobuf
from podling.api.errors import ApiError
from podling.api.resources import Resource
from podling.api.schema import Field, Kind, Node, Schemas
from podling.api.structs import parse_duration, shape
from podling.store.types import Object

SCHEMAS = Schemas.load()


# A writer: what gogo does for a Go struct, as far as these tests need it


def varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def number(place: int, value: int) -> bytes:
    return varint(place << 3) + varint(value)


def data(place: int, value: bytes) -> bytes:
    return varint(place << 3 | 2) + varint(len(value)) + value


def scalar(node: Node, value: Any) -> bytes | int:
    match node.kind:
        case Kind.STRING:
            return str(value).encode()
        case Kind.INTEGER | Kind.BOOLEAN:
            return int(value)
        case Kind.BYTES:
            return base64.b64decode(value)
        case Kind.QUANTITY:
            return data(1, str(value).encode())
        case Kind.INT_OR_STRING:
            is_text = isinstance(value, str)
            return number(1, is_text) + number(2, 0 if is_text else value) + data(3, str(value).encode() * is_text)
        case Kind.TIME | Kind.MICRO_TIME:
            moment = datetime.fromisoformat(value)
            return number(1, int(moment.timestamp())) + number(2, moment.microsecond * 1000)
        case Kind.DURATION:
            return number(1, parse_duration(value))
        case _:
            return data(1, orjson.dumps(value))


def entry(place: int, node: Node, value: Any) -> bytes:
    content = message(value, node) if node.kind is Kind.STRUCT else scalar(node, value)
    return number(place, content) if isinstance(content, int) else data(place, content)


def written(field: Field, value: Any) -> bytes:
    place, node = field.numbers[-1], field.node
    if node.kind is Kind.MAP:
        pairs = (data(1, key.encode()) + entry(2, node.element, item) for key, item in value.items())
        return b"".join(data(place, pair) for pair in pairs)
    if node.kind is Kind.LIST:
        return b"".join(entry(place, node.element, item) for item in value)
    return entry(place, node, value)


_ZEROS = {Kind.STRING: "", Kind.INTEGER: 0, Kind.BOOLEAN: False}


def message(obj: Object, node: Node) -> bytes:
    """Every value field, also an empty one; embedded structs in messages of their own."""
    parts: dict[tuple[int, ...], bytes] = {}
    for field in node.fields.values():
        value = obj.get(field.name)
        if value is None and not field.pointer:
            value = _ZEROS.get(field.node.kind)
        if value is not None and field.numbers:
            above = field.numbers[:-1]
            parts[above] = parts.get(above, b"") + written(field, value)
    content = parts.pop((), b"")
    for above, inner in parts.items():
        for place in reversed(above):
            inner = data(place, inner)
        content += inner
    return content


def envelope(api_version: str, kind: str, content: bytes) -> bytes:
    header = data(1, api_version.encode()) + data(2, kind.encode())
    return b"k8s\0" + data(1, header) + data(2, content) + data(3, b"") + data(4, b"")


def resource(api_version: str, kind: str) -> Resource:
    group, _, version = api_version.rpartition("/")
    schema = SCHEMAS.definition_of(group, version, kind) or ""
    return Resource(group=group, version=version, kind=kind, plural="x", singular="x", namespaced=True, schema=schema)


def read(body: bytes, served: Resource) -> Object:
    return decode.decode(body, decode.PROTOBUF, resource=served, schemas=SCHEMAS, field_validation="Strict").object


def by_protobuf(obj: Object) -> Object:
    served = resource(obj["apiVersion"], obj["kind"])
    node = SCHEMAS.node(served.schema)
    return read(envelope(obj["apiVersion"], obj["kind"], message(shape(obj, node)[0], node)), served)


def by_json(obj: Object) -> Object:
    served = resource(obj["apiVersion"], obj["kind"])
    return decode.decode(orjson.dumps(obj), "", resource=served, schemas=SCHEMAS, field_validation="Strict").object


POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"a": "b", "e": ""}, "creationTimestamp": "2026-01-02T03:04:05Z"},
    "spec": {
        "containers": [
            {
                "name": "c",
                "args": ["1", ""],
                "ports": [{"containerPort": 80}],
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k", "optional": False}}}],
                "envFrom": [{"secretRef": {"name": "s"}}],
                "resources": {"limits": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"port": "web"}, "initialDelaySeconds": 0, "periodSeconds": 3},
                "readinessProbe": {"tcpSocket": {"port": 8080}},
            }
        ],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "hostPath": {"path": "/x"}}],
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsUser": 0, "fsGroup": -1},
        "hostNetwork": True,
        "tolerations": [{"key": "k", "tolerationSeconds": 0}],
    },
}
DEPLOYMENT: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"a": "b"}},
        "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
        "template": {"spec": {"containers": [{"name": "c"}]}},
    },
}
SECRET: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "AAEC", "b": ""}}
LEASE: Object = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "l"},
    "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2026-01-02T03:04:05.000006Z"},
}
INGRESS: Object = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"name": "i"},
    "spec": {
        "rules": [
            {
                "host": "a.b",
                "http": {
                    "paths": [{"pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 1}}}}]
                },
            }
        ]
    },
}
REVISION: Object = {
    "apiVersion": "apps/v1",
    "kind": "ControllerRevision",
    "metadata": {"name": "r"},
    "revision": 3,
    "data": {"spec": {"x": [1, {"y": None}]}},
}


@pytest.mark.parametrize("obj", [POD, DEPLOYMENT, SECRET, LEASE, INGRESS, REVISION], ids=lambda obj: obj["kind"])
def test_an_object_reads_the_same_from_protobuf_and_from_json(obj: Object) -> None:
    assert by_protobuf(obj) == by_json(obj)


def test_an_empty_value_field_counts_as_unset_and_an_empty_pointer_as_set() -> None:
    spec = by_protobuf(DEPLOYMENT)["spec"]
    assert spec["replicas"] == 0
    assert "minReadySeconds" not in spec
    assert "paused" not in spec


def test_extra_values_come_in_messages_of_their_own() -> None:
    review = resource("authentication.k8s.io/v1", "TokenReview")
    extra = data(4, data(1, b"scopes") + data(2, data(1, b"a") + data(1, b"b")))
    status = data(3, number(1, 1) + data(2, data(1, b"me") + extra))
    obj = read(envelope("authentication.k8s.io/v1", "TokenReview", status), review)
    assert obj["status"] == {"authenticated": True, "user": {"username": "me", "extra": {"scopes": ["a", "b"]}}}


def test_packed_numbers_and_unknown_fields_are_understood() -> None:
    groups = SCHEMAS.node("io.k8s.api.core.v1.PodSecurityContext")
    place = groups.fields["supplementalGroups"].numbers[0]
    content = data(place, varint(1) + varint(300)) + number(place, 7) + number(999, 1) + data(998, b"x")
    assert protobuf.message(memoryview(content), groups) == {"supplementalGroups": [1, 300, 7]}


def test_a_schema_of_a_definition_may_be_a_boolean_or_a_list() -> None:
    props = SCHEMAS.node("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
    additional = props.fields["additionalProperties"].numbers[0]
    items = props.fields["items"].numbers[0]
    kind = props.fields["type"].numbers[0]
    inner = data(kind, b"string")
    content = data(additional, number(1, 1)) + data(items, data(1, inner))
    read_back = protobuf.message(memoryview(content), props)
    assert read_back == {"additionalProperties": True, "items": {"type": "string"}}


# Hostile bytes


def refusal(body: bytes) -> str:
    with pytest.raises(ApiError) as caught:
        read(body, resource("v1", "Pod"))
    assert caught.value.code == 400
    return caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"k8s",
        b"{}",
        b"k8s\0\xff",
        b"k8s\0" + b"\xff" * 20,
        b"k8s\0" + varint(2 << 3 | 2) + varint(1 << 40),
        b"k8s\0" + varint(1 << 3 | 3),
        b"k8s\0" + number(2, 5),
        b"k8s\0" + data(2, data(1, number(1, 5))),
        b"k8s\0" + data(2, data(1, data(1, b"\xff\xfe"))),
        b"k8s\0" + data(1, data(1, b"v1") + data(2, b"Nope")) + data(2, b""),
        b"k8s\0" + data(3, b"gzip"),
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    assert refusal(body)


def test_messages_cannot_nest_without_end() -> None:
    props = SCHEMAS.node("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
    place = props.fields["not"].numbers[0]
    content = b""
    for _ in range(1000):
        content = data(place, content)
    with pytest.raises(protobuf.ProtobufError, match="depth"):
        protobuf.message(memoryview(content), props)


POD_BYTES = envelope(
    "v1", "Pod", message(shape(POD, SCHEMAS.node("io.k8s.api.core.v1.Pod"))[0], SCHEMAS.node("io.k8s.api.core.v1.Pod"))
)


@given(st.integers(0, len(POD_BYTES)))
def test_a_truncated_message_is_refused_or_read(length: int) -> None:
    try:
        read(POD_BYTES[:length], resource("v1", "Pod"))
    except ApiError as error:
        assert error.code == 400


@given(st.integers(4, len(POD_BYTES) - 1), st.integers(0, 255))
def test_a_damaged_message_is_refused_or_read(place: int, byte: int) -> None:
    try:
        read(POD_BYTES[:place] + bytes([byte]) + POD_BYTES[place + 1 :], resource("v1", "Pod"))
    except ApiError as error:
        assert error.code == 400
