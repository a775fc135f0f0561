"""What the schema pack knows."""

from __future__ import annotations

import pytest

from podling.api.schema import Kind, Node, Schemas


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas.load()


def at(node: Node, *path: str) -> Node:
    for name in path:
        node = node.element if name == "[]" else node.child(name)
    return node


def test_containers_are_a_list_with_names_as_keys(schemas: Schemas) -> None:
    spec = schemas.node("io.k8s.api.core.v1.PodSpec")
    containers = spec.fields["containers"]
    assert containers.node.keys == ("name",)
    assert not containers.node.atomic
    assert containers.merge_key == "name"
    assert "merge" in containers.strategies


def test_an_absent_protocol_counts_as_tcp_in_the_key_of_a_port(schemas: Schemas) -> None:
    ports = at(schemas.node("io.k8s.api.core.v1.ServiceSpec"), "ports")
    assert ports.keys == ("port", "protocol")
    assert ports.key_defaults == {"port": 0, "protocol": "TCP"}


def test_a_label_selector_is_owned_as_a_whole(schemas: Schemas) -> None:
    assert at(schemas.node("io.k8s.api.apps.v1.DeploymentSpec"), "selector").atomic


def test_a_field_may_be_granular_where_its_type_is_atomic(schemas: Schemas) -> None:
    assert schemas.node("io.k8s.api.core.v1.ObjectReference").atomic
    assert not at(schemas.node("io.k8s.api.core.v1.PersistentVolumeSpec"), "claimRef").atomic


def test_a_pointer_is_told_from_a_value(schemas: Schemas) -> None:
    fields = schemas.node("io.k8s.api.apps.v1.DeploymentSpec").fields
    assert fields["replicas"].pointer
    assert not fields["minReadySeconds"].pointer
    assert fields["strategy"] in schemas.node("io.k8s.api.apps.v1.DeploymentSpec").written


def test_the_shape_of_a_group_version_kind_is_found(schemas: Schemas) -> None:
    assert schemas.definition_of("apps", "v1", "Deployment") == "io.k8s.api.apps.v1.Deployment"
    assert schemas.definition_of("", "v1", "Pod") == "io.k8s.api.core.v1.Pod"
    assert schemas.definition_of("apps", "v9", "Deployment") is None


def test_schemas_may_be_recursive(schemas: Schemas) -> None:
    name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
    node = schemas.node(name)
    assert at(node, "properties", "[]") is node


def test_every_field_of_the_served_kinds_has_a_protobuf_number(schemas: Schemas) -> None:
    # Served kinds are those of `podling.kinds`; here the groups that any cluster serves stand for them.
    served = [name for name in schemas if name.startswith(("io.k8s.api.", "io.k8s.apimachinery."))]
    seen: set[str] = set()
    unnumbered: list[str] = []
    waiting = [schemas.node(name) for name in served if "x-kubernetes-group-version-kind" in schemas.definition(name)]
    while waiting:
        node = waiting.pop()
        if node.kind in {Kind.LIST, Kind.MAP}:
            waiting.append(node.element)
        if node.kind is not Kind.STRUCT or node.definition in seen:
            continue
        seen.add(node.definition)
        for field in node.fields.values():
            waiting.append(field.node)
            if not field.numbers and field.name not in {"apiVersion", "kind"}:
                unnumbered.append(f"{node.definition}.{field.name}")
    assert len(seen) > 200
    assert unnumbered == []


def test_a_custom_resource_brings_its_own_schema(schemas: Schemas) -> None:
    node = schemas.custom(
        {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {
                        "ports": {
                            "type": "array",
                            "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["port"],
                            "items": {"type": "object", "properties": {"port": {"type": "integer", "default": 80}}},
                        },
                        "size": {"x-kubernetes-int-or-string": True},
                        "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    },
                }
            },
        }
    )
    assert at(node, "spec", "ports").key_defaults == {"port": 80}
    assert at(node, "spec", "size").kind is Kind.INT_OR_STRING
    assert at(node, "spec", "anything").kind is Kind.ANY
    assert at(node, "metadata").definition.endswith("ObjectMeta")


def test_a_registered_custom_resource_is_found_like_any_other() -> None:
    own = Schemas.load()
    own.register("com.example.v1.Toy", {"type": "object", "properties": {}}, "example.com", "v1", "Toy")
    assert own.definition_of("example.com", "v1", "Toy") == "com.example.v1.Toy"
    assert own.node("com.example.v1.Toy").structural
    assert own.packed("com.example.v1.Toy")
