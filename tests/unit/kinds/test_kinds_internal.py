"""Structs as Kubernetes' errors show them: Go's names and order, what is not set written out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from podling.api.schema import Kind, Node, Schemas
from podling.kinds.apiextensions import internal as apiextensions
from podling.kinds.core import internal as core
from podling.kinds.validation.internal import Structs

STRUCTS = Structs(
    {
        "Whole": "Name FSType:*string Count:int Ready:bool Other=another:*int Parts:[]Part By:{}Part +Inner Last:Part",
        "Part": "Amount:quantity Port:intstr Any:any When:time",
        "Inner": "+ObjectMeta Picks:*LabelSelector",
    },
    {},
)
NO_PART = {"Amount": "0", "Port": 0, "Any": None, "When": None}


def test_what_is_not_set_is_written_out_in_the_order_of_declaration() -> None:
    shown = STRUCTS.shown("Whole", {})
    assert list(shown.items()) == [
        *(("Name", ""), ("FSType", None), ("Count", 0), ("Ready", False), ("Other", None)),
        *(("Parts", None), ("By", None), ("Picks", None), ("Last", NO_PART)),
    ]


def test_what_is_set_is_written_as_its_type_writes_itself() -> None:
    selector = {"matchExpressions": [{"operator": "Exists", "key": "k"}], "matchLabels": {"b": "1", "a": "2"}}
    whole = {
        "name": "n",
        "fsType": "",
        "another": 0,
        "parts": [{"amount": "1024Mi", "port": "http", "any": {"b": 1.0, "a": [0.5]}, "when": "2026-01-01T00:00:00Z"}],
        "by": {"b": {}, "a": {}},
        "metadata": {"labels": {"d": "1", "c": "2"}, "name": "m", "annotations": {}},
        "picks": selector,
    }
    shown = STRUCTS.shown("*Whole", whole)
    assert shown["FSType"] == ""
    assert shown["Other"] == 0
    assert shown["Parts"] == [
        {"Amount": "1Gi", "Port": "http", "Any": {"a": [0.5], "b": 1}, "When": "2026-01-01T00:00:00Z"}
    ]
    assert list(shown["By"]) == ["a", "b"]
    assert (shown["name"], list(shown["labels"]), "annotations" in shown) == ("m", ["c", "d"], False)
    assert shown["Picks"] == {
        "matchLabels": {"a": "2", "b": "1"},
        "matchExpressions": [{"key": "k", "operator": "Exists"}],
    }


def test_a_difference_is_unified_without_names_of_files() -> None:
    before = {"name": "<a>", "parts": []}
    after = {"name": "b", "parts": []}
    assert STRUCTS.difference("Whole", before, after) == (
        '@@ -1,5 +1,5 @@\n {\n- "Name": "\\u003ca\\u003e",\n+ "Name": "b",\n'
        '  "FSType": null,\n  "Count": 0,\n  "Ready": false,\n'
    )


def test_internally_the_security_context_has_what_a_pod_shares_with_its_host() -> None:
    context = core.STRUCTS.shown("PodSpec", {"hostPID": True, "hostUsers": False})["SecurityContext"]
    assert (context["HostNetwork"], context["HostPID"], context["HostUsers"], context["RunAsUser"]) == (
        *(False, True, False, None),
    )


def test_a_schema_says_which_of_its_forms_it_has() -> None:
    schema: dict[str, Any] = {
        "items": {"type": "string"},
        "additionalProperties": False,
        "additionalItems": {"type": "number"},
        "dependencies": {"a": ["b"], "c": {"type": "object"}},
    }
    shown = apiextensions.STRUCTS.shown("JSONSchemaProps", schema)
    assert (shown["Items"]["Schema"]["Type"], shown["Items"]["JSONSchemas"]) == ("string", None)
    assert shown["AdditionalProperties"] == {"Allows": False, "Schema": None}
    assert (shown["AdditionalItems"]["Allows"], shown["AdditionalItems"]["Schema"]["Type"]) == (True, "number")
    assert shown["Dependencies"]["a"] == {"Schema": None, "Property": ["b"]}
    assert shown["Dependencies"]["c"]["Property"] is None


def filled(node: Node, numbers: Iterator[int], deep: int = 12) -> Any:
    """A value with every field set, every number in it another one."""
    number = next(numbers)
    match node.kind:
        case Kind.STRUCT if deep:
            return {name: filled(field.node, numbers, deep - 1) for name, field in node.fields.items()}
        case Kind.LIST:
            return [filled(node.element, numbers, deep - 1)]
        case Kind.MAP:
            return {"key": filled(node.element, numbers, deep - 1)}
        case Kind.INTEGER:
            return number
        case Kind.BOOLEAN:
            return True
        case _:
            return str(number)


VOLUME = (
    *("capacity", "claimRef", "persistentVolumeReclaimPolicy", "mountOptions", "nodeAffinity", "accessModes"),
    *("volumeMode", "storageClassName", "volumeAttributesClassName"),
)


def leaves(value: Any) -> set[Any]:
    if isinstance(value, dict):
        return set().union(*map(leaves, value.values()))
    if isinstance(value, list):
        return set().union(*map(leaves, value))
    return {value}


@pytest.mark.parametrize(
    ("definition", "struct", "elsewhere"),
    [
        ("PodSpec", "PodSpec", ("serviceAccount",)),
        ("PersistentVolumeClaimSpec", "PersistentVolumeClaimSpec", ()),
        ("PersistentVolumeClaimStatus", "PersistentVolumeClaimStatus", ()),
        ("PersistentVolumeSpec", "PersistentVolumeSource", VOLUME),
        ("VolumeNodeAffinity", "VolumeNodeAffinity", ()),
    ],
)
def test_every_field_that_a_client_may_set_is_shown(definition: str, struct: str, elsewhere: tuple[str, ...]) -> None:
    value = filled(Schemas.load().node(f"io.k8s.api.core.v1.{definition}"), itertools.count(1001, 2))
    for key in elsewhere:
        value.pop(key, None)
    assert leaves(value) - leaves(core.STRUCTS.shown(struct, value)) == set()


def test_of_a_pod_the_difference_is_told(kinds, writes, problems) -> None:
    kind = kinds["pods/v1"]
    old = writes(kind, {"spec": {"containers": [{"name": "c", "image": "a:1"}]}}).new
    containers = [{**old["spec"]["containers"][0], "image": "a:2"}]
    (told,) = problems(kind, {**old, "spec": {**old["spec"], "hostname": "x", "containers": containers}}, old)
    assert told.partition("\n")[2].splitlines()[4:6] == ['- "Hostname": "",', '+ "Hostname": "x",']
    assert told.count("@@") == 2


def test_of_a_container_for_debugging_the_difference_is_told(kinds, writes, problems) -> None:
    kind = kinds["pods/v1"]
    debugger = {"name": "d", "image": "a:1", "targetContainerName": "c"}
    old = writes(kind, {"spec": {"containers": [{"name": "c", "image": "a:1"}]}}).new
    old["spec"]["ephemeralContainers"] = [debugger]
    new = {**old, "spec": {**old["spec"], "ephemeralContainers": [{**debugger, "stdin": True}]}}
    told = problems(kind, new, old, subresource="ephemeralcontainers")[-1]
    assert told.startswith(
        'spec.ephemeralContainers: Forbidden: existing ephemeral containers "d" may not be changed\n@'
    )
    assert '\n- "Stdin": false,\n+ "Stdin": true,\n' in told


CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "a"}


def test_of_a_claim_the_difference_is_told_and_its_new_volume_is_none(kinds, writes, problems) -> None:
    kind = kinds["persistentvolumeclaims/v1"]
    old = writes(kind, {"spec": CLAIM}).new
    (told,) = problems(kind, {**old, "spec": {**old["spec"], "storageClassName": "b", "volumeName": "v"}}, old)
    assert '\n- "StorageClassName": "a",\n+ "StorageClassName": "b",\n' in told
    assert '\n  "VolumeName": "v",\n' in told


def test_of_a_volume_the_difference_of_sources_is_told(kinds, writes, problems) -> None:
    kind = kinds["persistentvolumes/v1"]
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}
    old = writes(kind, {"spec": {**spec, "csi": {"driver": "d.io", "volumeHandle": "v"}}}).new
    (told,) = problems(kind, {**old, "spec": {**old["spec"], "csi": {"driver": "d.io", "volumeHandle": "w"}}}, old)
    assert told.startswith("spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after ")
    assert '\n-  "VolumeHandle": "v",\n+  "VolumeHandle": "w",\n' in told


def test_versions_of_a_definition_are_shown_without_what_they_share(kinds, problems) -> None:
    schema = {"openAPIV3Schema": {"type": "object"}}
    versions = [{"name": name, "served": True, "storage": True, "schema": schema} for name in ("v1", "v2")]
    spec = {
        "group": "example.com",
        "scope": "Cluster",
        "names": {"plural": "as", "kind": "A"},
        "versions": [*versions[:1], {**versions[1], "subresources": {"status": {}}}],
    }
    told = problems(
        kinds["customresourcedefinitions.apiextensions.k8s.io/v1"],
        {"metadata": {"name": "as.example.com"}, "spec": spec},
    )
    assert told[0].startswith(
        'spec.versions: Invalid value: [{"Name":"v1","Served":true,"Storage":true,"Deprecated":false,'
        '"DeprecationWarning":null,"Schema":null,"Subresources":null,'
    )
    assert '"Subresources":{"Status":{},"Scale":null}' in told[0]
    assert told[1] == 'status.storedVersions: Invalid value: ["v1"]: must have the storage version v2'


@pytest.mark.parametrize(("waits", "at"), [(True, "spec.template.spec"), (False, "spec.template")])
def test_of_a_job_that_waits_the_pods_specification_is_shown_else_the_template(
    kinds, writes, problems, waits: bool, at: str
) -> None:
    kind = kinds["jobs.batch/v1"]
    spec = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "a:1"}]}
    old = writes(kind, {"spec": {"suspend": waits, "template": {"spec": spec}}}).new
    template = old["spec"]["template"]
    template = {**template, "spec": {**template["spec"], "hostname": "h"}}
    (told,) = problems(kind, {**old, "spec": {**old["spec"], "template": template}}, old)
    assert told.startswith(f"{at}: Invalid value: {{")
    assert told.endswith(": field is immutable")
    assert '"Hostname":"h","Subdomain":""' in told
