"""CustomResourceDefinitions: what is said of names, versions and schemas that are wrong, in Kubernetes' words."""

from __future__ import annotations

import copy

import pytest

from podling.kinds.apiextensions import fieldpaths, structural

NAMES = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
VERSION = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
SPEC = {"group": "example.com", "scope": "Namespaced", "names": NAMES, "versions": [VERSION]}
LIST = {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}, "required": ["k"]}}
TEXT = {"type": "string"}


def versions(**members):
    return {"versions": [{**VERSION, **members}]}


def of(**properties):
    return {"type": "object", "properties": properties}


def ruled(rule):
    return {"type": "integer", "x-kubernetes-validations": [rule]}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "object", "nullable": True}, "s.nullable: Forbidden: nullable cannot be true at the root"),
        ({"type": "array", "items": TEXT}, 's.type: Invalid value: "array": must be object at the root'),
        (of(a={}), "s.properties[a].type: Required value: must not be empty for specified object fields"),
        (of(a={"type": "null"}), 's.properties[a].type: Unsupported value: "null"'),
        (of(a={"type": "array"}), "s.properties[a].items: Required value: must be specified"),
        (of(kind={"type": "integer"}), 's.properties[kind].type: Invalid value: "integer": must be string'),
        (of(metadata={"type": "object", "nullable": True}), "s.properties[metadata]: Forbidden: must not specify any"),
        (
            of(metadata={"type": "object", "default": {}}),
            "s.properties[metadata].default: Forbidden: must not be set in",
        ),
        (of(a={**TEXT, "allOf": [TEXT]}), "s.properties[a].allOf[0].type: Forbidden: must be empty to be structural"),
        (of(a={**TEXT, "not": {"nullable": True}}), "s.properties[a].not.nullable: Forbidden: must be false to be str"),
        (
            {**of(), "anyOf": [{"properties": {"b": {"minLength": 1}}}]},
            "s.properties[b]: Required value: because it is defined in s.anyOf[0].properties[b]",
        ),
        (of(a={**TEXT, "oneOf": [{"pattern": "("}]}), 's.properties[a].oneOf[0].pattern: Invalid value: "("'),
        (of(a={"x-kubernetes-embedded-resource": True}), "s.properties[a].type: Required value: must be object if x-"),
        (of(a={**TEXT, "$ref": "x"}), "s.properties[a].$ref: Forbidden: $ref is not supported"),
        (of(a={**TEXT, "x-kubernetes-preserve-unknown-fields": False}), "s.properties[a].x-kubernetes-preserve-unkn"),
        (of(a={**TEXT, "x-kubernetes-map-type": "atomic"}), 's.properties[a].type: Invalid value: "string": must be'),
        (of(a={**TEXT, "x-kubernetes-list-type": "set"}), 's.properties[a].type: Invalid value: "string": must be arr'),
        (of(a={**LIST, "x-kubernetes-list-type": "set"}), "s.properties[a].items.x-kubernetes-map-type: Invalid value"),
        (of(a={**LIST, "x-kubernetes-list-type": "map"}), "s.properties[a].x-kubernetes-list-map-keys: Required value"),
        (
            of(a={**LIST, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["z", "z"]}),
            's.properties[a].x-kubernetes-list-map-keys: Invalid value: ["z","z"]: must not contain duplicate entries',
        ),
        (of(a={**of(b=TEXT), "default": {"c": 1}}), 's.properties[a].default: Invalid value: {"c":1}: must not have'),
    ],
)
def test_a_schema_that_is_not_structural_is_told_why(schema, said) -> None:
    found = [str(e) for e in structural.schema(schema, "s")]
    assert [line for line in found if line.startswith(said)], found


def test_a_number_or_a_text_is_structural() -> None:
    either = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert structural.schema(of(a=either), "s") == []
    assert (
        structural.schema(of(a={"x-kubernetes-int-or-string": True, "allOf": [{"anyOf": either["anyOf"]}]}), "s") == []
    )


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (
            {"type": "array", "maxItems": 1, "items": ruled({"rule": "self == oldSelf"})},
            "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[a]",
        ),
        (
            ruled({"rule": "self > 1", "optionalOldSelf": True}),
            "may not be set if oldSelf is not used in rule",
        ),
        (
            ruled({"rule": "self > 1", "message": " "}),
            'Invalid value: " ": must be non-empty if specified',
        ),
    ],
)
def test_a_rule_is_told_what_it_cannot_say(schema, said) -> None:
    found = [str(e) for e in structural.schema(of(a=schema), "s")]
    assert [line for line in found if line.endswith(said)], found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"group": "a.k8s.io"}, "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups"),
        (
            {"names": {**NAMES, "listKind": "Thing"}},
            'spec.names.listKind: Invalid value: "Thing": kind and listKind may',
        ),
        ({"names": {**NAMES, "kind": "A B"}}, 'spec.names.kind: Invalid value: "A B": may have mixed case, but should'),
        (versions(deprecationWarning="w"), 'spec.versions[0].deprecationWarning: Invalid value: "w"'),
        (
            versions(subresources={"scale": {"specReplicasPath": ".a", "statusReplicasPath": "b"}}),
            'spec.subresources.scale.specReplicasPath: Invalid value: ".a": should be a json path under .spec',
        ),
        (
            versions(additionalPrinterColumns=[{"name": "n", "type": "string", "format": "x", "jsonPath": ".a"}]),
            'spec.additionalPrinterColumns[0].format: Invalid value: "x": must be one of byte,date,date-time,double',
        ),
        (
            versions(selectableFields=[{"jsonPath": ".a"}]),
            'spec.selectableFields[0].jsonPath: Invalid value: ".a": is an invalid path',
        ),
        (
            {"conversion": {"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}},
            "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webh",
        ),
    ],
)
def test_a_definition_is_told_what_is_wrong(kinds, problems, change, said) -> None:
    spec = copy.deepcopy({**SPEC, **change})
    definition = {"metadata": {"name": f"{spec['names']['plural']}.{spec['group']}"}, "spec": spec}
    found = problems(kinds["customresourcedefinitions.apiextensions.k8s.io/v1"], definition)
    assert [line for line in found if line.startswith(said)], found


def test_a_version_that_was_stored_stays(kinds, writes, problems) -> None:
    kind = kinds["customresourcedefinitions.apiextensions.k8s.io/v1"]
    old = writes(kind, {"metadata": {"name": "things.example.com"}, "spec": copy.deepcopy(SPEC)}).new
    new = copy.deepcopy({**old, "spec": {**SPEC, "versions": [{**VERSION, "name": "v2"}]}})
    (said,) = problems(kind, new, old)
    assert said.startswith(
        'status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously'
    )


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({**TEXT, "maxLength": 2, "default": "abc"}, "s.properties[a].default: Too long: may not be more than 2 bytes"),
        (
            {**TEXT, "default": 1},
            's.properties[a].default: Invalid value: "integer":  in body must be of type string: "integer"',
        ),
        (
            {**of(b={**TEXT, "enum": ["x"]}), "default": {"b": "y"}},
            's.properties[a].default.b: Unsupported value: "y": supported values: "x"',
        ),
        (
            {**ruled({"rule": "self > 1", "message": "small"}), "default": 1},
            "s.properties[a].default: Invalid value: 1: small",
        ),
        (
            {**LIST, "x-kubernetes-preserve-unknown-fields": True, "default": [{"k": "x", "b": 1}]},
            "",
        ),
        (
            {**of(b=TEXT), "x-kubernetes-embedded-resource": True, "default": {"kind": "K", "b": "x"}},
            "s.properties[a].default.apiVersion: Required value",
        ),
    ],
)
def test_a_default_is_a_value_that_could_have_been_given(schema, said) -> None:
    assert [str(e) for e in structural.schema(of(a=schema), "s")] == ([said] if said else [])


def test_where_a_status_is_served_the_root_says_little() -> None:
    root = of(a=TEXT) | {"minProperties": 1}
    assert structural.schema(root, "s") == []
    (error,) = structural.schema(root, "s", with_status=True)
    assert str(error).startswith('s: Invalid value: {"ID":"","Schema":"","Ref":null,')
    assert str(error).endswith(
        "XValidations] fields are allowed at the root of the schema if the status subresource is enabled"
    )


def test_a_schema_of_a_kind_that_is_not_supported_is_not_looked_at_further() -> None:
    root = of(a={"type": "array", "items": [TEXT]}, b={})
    found = [str(e) for e in structural.schema(root, "s")]
    assert found == ["s.properties[a].items: Forbidden: items must be a schema object and not an array"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (".spec.app", "spec.app"),
        (".labels['a.b']", "labels[a.b]"),
        (".labels.x", "labels[x]"),
        ("spec", "expected [ or . but got: spec"),
        (".spec.none", "does not refer to a valid field"),
        (".labels[0]", "expected single quoted string but got 0"),
        (".spec.", "unexpected end of JSON path"),
    ],
)
def test_a_path_leads_through_fields_and_members(path, shown) -> None:
    schema = of(spec=of(app=TEXT), labels={"type": "object", "additionalProperties": TEXT})
    try:
        found = fieldpaths.follow(path, schema).path
    except fieldpaths.PathError as error:
        found = str(error)
    assert found == shown


def test_formats_that_mean_nothing_where_they_stand_are_told() -> None:
    schema = of(
        a={**TEXT, "format": "int32"}, b={"type": "integer", "format": "int64"}, c={**TEXT, "format": "k8s-short-name"}
    )
    assert list(structural.unknown_formats(schema)) == ["int32"]
