"""Reading request bodies: what Go would make of them, and what it would say of the wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import decode, gojson, yaml
from podling.api.errors import ApiError
from podling.api.resources import Resource
from podling.api.schema import Schemas
from podling.api.structs import DecodeError, duration_text, parse_duration, shape
from podling.store.types import Object

SCHEMAS = Schemas.load()
POD_SPEC = {"containers": [{"name": "c", "image": "i"}]}


def resource(kind: str, group: str = "", version: str = "v1") -> Resource:
    return Resource(
        group=group,
        version=version,
        kind=kind,
        plural=f"{kind.lower()}s",
        singular=kind.lower(),
        namespaced=True,
        schema=SCHEMAS.definition_of(group, version, kind) or "",
    )


PODS = resource("Pod")
CONFIG_MAPS = resource("ConfigMap")


def read(
    body: Any, served: Resource = PODS, *, validation: str = "Strict", content_type: str = decode.JSON
) -> decode.Decoded:
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    return decode.decode(text, content_type, resource=served, schemas=SCHEMAS, field_validation=validation)


def refusal(body: Any, served: Resource = PODS, *, content_type: str = decode.JSON) -> str:
    with pytest.raises(ApiError) as caught:
        read(body, served, content_type=content_type)
    assert caught.value.code in {400, 415}
    return caught.value.message


def pod(**spec: Any) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {**POD_SPEC, **spec}}


# What Go's structs make of an object


def test_an_object_reads_as_go_would_write_it_again() -> None:
    body = pod(hostNetwork=False, terminationGracePeriodSeconds=0, nodeSelector={}, hostname="", volumes=None)
    assert read(body).object == {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": "p"},
        "spec": {
            "containers": [{"name": "c", "image": "i", "resources": {}}],
            "terminationGracePeriodSeconds": 0,
        },
        "status": {},
    }


def test_a_required_list_that_is_missing_is_null() -> None:
    role = resource("Role", "rbac.authorization.k8s.io")
    assert read({"metadata": {"name": "r"}}, role).object["rules"] is None


def test_quantities_and_times_are_normalised() -> None:
    body = pod(containers=[{"name": "c", "resources": {"limits": {"cpu": "1000m", "memory": 1024}}}])
    body["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05+01:00"
    obj = read(body).object
    assert obj["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "1", "memory": "1024"}}
    assert obj["metadata"]["creationTimestamp"] == "2026-01-02T02:04:05Z"


def test_a_body_without_a_type_takes_that_of_the_endpoint() -> None:
    obj = read({"metadata": {"name": "c"}}, CONFIG_MAPS).object
    assert (obj["apiVersion"], obj["kind"]) == ("v1", "ConfigMap")


def test_the_result_shares_nothing_with_what_it_was_read_from() -> None:
    value: Object = {"metadata": {"name": "c", "labels": {"a": "b"}}, "data": {"k": "v"}}
    copy, _ = shape(value, SCHEMAS.node(CONFIG_MAPS.schema))
    copy["data"]["k"] = "w"
    copy["metadata"]["labels"]["a"] = "c"
    assert value == {"metadata": {"name": "c", "labels": {"a": "b"}}, "data": {"k": "v"}}


# Wrong types, in encoding/json's words


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("x", "string into Go struct field Pod.spec of type v1.PodSpec"),
        ({"containers": {}}, "object into Go struct field PodSpec.spec.containers of type []v1.Container"),
        ({"containers": [1]}, "number into Go struct field PodSpec.spec.containers of type v1.Container"),
        ({"hostNetwork": "yes"}, "string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        ({"priority": 1.5}, "number 1.5 into Go struct field PodSpec.spec.priority of type int32"),
        ({"priority": 3000000000}, "number 3000000000 into Go struct field PodSpec.spec.priority of type int32"),
        ({"nodeSelector": {"a": True}}, "bool into Go struct field PodSpec.spec.nodeSelector of type string"),
        ({"dnsPolicy": 1}, "number into Go struct field PodSpec.spec.dnsPolicy of type v1.DNSPolicy"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(spec: Any, words: str) -> None:
    message = refusal({"apiVersion": "v1", "kind": "Pod", "spec": spec})
    assert message == f'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal {words}'


def test_the_first_of_several_mismatches_is_told() -> None:
    message = refusal(pod(hostPID="x", hostIPC="y"))
    assert "PodSpec.spec.hostPID" in message


def test_a_type_that_decodes_itself_fails_at_once() -> None:
    body = pod(hostPID="x")
    body["metadata"]["deletionTimestamp"] = "yesterday"
    body["metadata"], body["spec"] = body.pop("metadata"), body.pop("spec")
    assert 'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"' in refusal(
        body
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-13-01T00:00:00Z", 'parsing time "2026-13-01T00:00:00Z": month out of range'),
        ("2026-01-01", 'as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"'),
        ("2026-01-01T00:00:00", 'cannot parse "" as "Z07:00"'),
        ("2026-01-01T00:00:00Zx", 'extra text: "x"'),
    ],
)
def test_a_wrong_time_is_refused_in_the_words_of_time_parse(text: str, words: str) -> None:
    assert words in refusal({"metadata": {"name": "p", "creationTimestamp": text}})


def test_bytes_that_are_no_base64_are_refused() -> None:
    assert refusal({"binaryData": {"a": "ab*d"}}, CONFIG_MAPS).endswith("illegal base64 data at input byte 2")


def test_a_port_is_a_number_or_a_name() -> None:
    probe = {"httpGet": {"port": True}}
    message = refusal(pod(containers=[{"name": "c", "livenessProbe": probe}]))
    place = "HTTPGetAction.spec.containers.livenessProbe.httpGet.port"
    assert message.endswith(f"json: cannot unmarshal bool into Go struct field {place} of type int32")


# Unknown and repeated fields


def test_unknown_fields_are_refused_one_by_one() -> None:
    body = pod(foo=1, containers=[{"name": "c", "bar": 1}])
    words = 'strict decoding error: unknown field "spec.containers[0].bar", unknown field "spec.foo"'
    assert refusal(dict(body, top=1)).endswith(f'{words}, unknown field "top"')


def test_unknown_fields_may_only_be_warned_of_or_ignored() -> None:
    decoded = read(pod(foo=1), validation="Warn")
    assert decoded.warnings == ['unknown field "spec.foo"']
    assert "foo" not in decoded.object["spec"]
    assert read(pod(foo=1), validation="Ignore").warnings == []


def test_repeated_keys_are_seen() -> None:
    body = b'{"data":{"a":"1","a":"2"},"immutable":false,"immutable":true}'
    decoded = read(body, CONFIG_MAPS, validation="Warn")
    assert decoded.warnings == ['duplicate field "data.a"', 'duplicate field "immutable"']
    assert decoded.object["data"] == {"a": "2"}


def test_repeated_keys_in_yaml_are_told_with_their_line() -> None:
    body = b"data:\n  a: b\n  a: c\nzap: 1\n"
    words = 'yaml: unmarshal errors:\n  line 3: key "a" already set in map, unknown field "zap"'
    assert refusal(body, CONFIG_MAPS, content_type=decode.YAML).endswith(words)


# Bodies that are no objects, or another's


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"),
        (b"{", "couldn't get version/kind; json parse error: unexpected end of JSON input ({)"),
        (b"[]", '"json:\\"kind,omitempty\\"" } (5b5d)'),
        (b"1", "cannot unmarshal number into Go value of type struct { APIVersion string"),
        (b'{"kind":1}', "json: cannot unmarshal number into Go struct field .kind of type string"),
    ],
)
def test_a_body_that_is_no_object_is_not_recognised(body: bytes, words: str) -> None:
    message = refusal(body, CONFIG_MAPS)
    assert message.startswith("the object provided is unrecognized (must be of type ConfigMap): ")
    assert words in message


def test_an_unknown_kind_is_not_registered() -> None:
    message = refusal({"apiVersion": "v2", "kind": "ConfigMap"}, CONFIG_MAPS)
    assert 'ConfigMap in version "v2" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered' in message


def test_another_kind_is_told_before_its_fields() -> None:
    message = refusal({"apiVersion": "v1", "kind": "Service", "zip": 1}, CONFIG_MAPS)
    assert message.endswith("converting (v1.Service) to (core.ConfigMap): unknown conversion")


def test_a_version_of_too_many_parts_is_none() -> None:
    message = refusal({"apiVersion": "a/b/c", "kind": "ConfigMap"}, CONFIG_MAPS)
    assert "unrecognized (must be of type ConfigMap): unexpected GroupVersion string: a/b/c (" in message


def test_the_type_of_a_body_is_read_without_a_mind_for_capitals() -> None:
    message = refusal({"APIVersion": "v1", "Kind": "Service"}, CONFIG_MAPS)
    assert message.endswith("converting (v1.Service) to (core.ConfigMap): unknown conversion")


def test_another_kind_cannot_be_converted() -> None:
    message = refusal({"apiVersion": "v1", "kind": "Service"})
    assert message.endswith("converting (v1.Service) to (core.Pod): unknown conversion")


def test_another_version_of_the_kind_belongs_elsewhere() -> None:
    served = resource("HorizontalPodAutoscaler", "autoscaling", "v2")
    message = refusal({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "spec": {}}, served)
    expected = "(autoscaling/v1) does not match the expected API version (autoscaling/v2)"
    assert message == f"the API version in the data {expected}"


def test_another_media_type_is_not_supported() -> None:
    accepted = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    assert refusal(b"x", content_type="text/plain").endswith(f"accepted media types include: {accepted}")


def test_delete_options_may_be_absent_or_bare() -> None:
    assert decode.decode_options(b"", "", schemas=SCHEMAS) == {}
    body = b'{"gracePeriodSeconds":0,"propagationPolicy":"Orphan"}'
    assert decode.decode_options(body, decode.JSON, schemas=SCHEMAS) == {
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Orphan",
    }
    with pytest.raises(
        ApiError, match=r"cannot unmarshal string into Go struct field DeleteOptions\.gracePeriodSeconds"
    ):
        decode.decode_options(b'{"gracePeriodSeconds":"x"}', decode.JSON, schemas=SCHEMAS)


# JSON


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{bad", "invalid character 'b' looking for beginning of object key string"),
        (b'{"a":}', "invalid character '}' looking for beginning of value"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"{} x", "invalid character 'x' after top-level value"),
        (b"nul", "unexpected end of JSON input"),
        (b"nule", "invalid character 'e' in literal null (expecting 'l')"),
        (b'{"a":"b', "unexpected end of JSON input"),
        (b'["\\x"]', "invalid character 'x' in string escape code"),
        (b'["\n"]', "invalid character '\\n' in string literal"),
        (b'["\\u12G4"]', "invalid character 'G' in \\u hexadecimal character escape"),
        (b'["\\u12', "unexpected end of JSON input"),
        (b'["NaN",NaN]', "invalid character 'N' looking for beginning of value"),
        (b'{"a":-Infinity}', "invalid character 'I' in numeric literal"),
        (b"[-]", "invalid character ']' in numeric literal"),
        (b"[1.]", "invalid character ']' after decimal point in numeric literal"),
        (b"[2.5e+x]", "invalid character 'x' in exponent of numeric literal"),
        (b"[01]", "invalid character '1' after array element"),
        (b"[1e5e6]", "invalid character 'e' after array element"),
        (b"1e", "unexpected end of JSON input"),
        (b"\xef\xbb\xbf{}", "invalid character '\u00ef' looking for beginning of value"),
        (b"[1e400]", "json: cannot unmarshal number 1e400 into Go value of type float64"),
    ],
)
def test_broken_json_is_described_as_go_does(text: bytes, words: str) -> None:
    with pytest.raises(gojson.JsonError) as caught:
        gojson.loads(text)
    assert str(caught.value) == words


@pytest.mark.parametrize("number", ["1e400", "1e2", "1.0", "99999999999999999999999", "9" * 5000, "-1E+400"])
@pytest.mark.parametrize("field_validation", ["Strict", "Ignore"])
def test_a_number_that_does_not_fit_is_shown_as_it_was_written(number: str, field_validation: str) -> None:
    body = b'{"spec":{"priority":%b}}' % number.encode()
    with pytest.raises(ApiError) as caught:
        decode.decode(body, decode.JSON, resource=PODS, schemas=SCHEMAS, field_validation=field_validation)
    assert caught.value.message.endswith(f"number {number} into Go struct field PodSpec.spec.priority of type int32")


def test_a_number_that_nothing_can_hold_is_refused_where_no_type_is_known() -> None:
    served = resource("ControllerRevision", "apps")
    message = refusal(b'{"data":{"a":-1e400}}', served)
    assert message.endswith(": json: cannot unmarshal number -1e400 into Go value of type float64")


@pytest.mark.parametrize("read", [gojson.loads, gojson.loads_strict])
def test_nesting_that_could_not_be_written_again_is_refused(read: Callable[[bytes], Any]) -> None:
    def nested(levels: int) -> bytes:
        return b"[" * levels + b"]" * levels

    read(nested(gojson.MAX_DEPTH))
    for levels in (gojson.MAX_DEPTH + 2, 900, 100_000):
        with pytest.raises(gojson.JsonError):
            read(nested(levels))
        with pytest.raises(gojson.JsonError):
            read(b'["\\ud83d",%b]' % nested(levels))  # half a character, which only Python's own reader takes


def test_numbers_beyond_64_bits_are_floating_point_whichever_way_they_are_read() -> None:
    huge = b"9" * 30
    assert gojson.loads(b'{"a":"\\ud83d","b":%b}' % huge)["b"] == float(huge)
    assert gojson.loads_strict(b'{"a":1,"a":%b}' % huge)["a"] == float(huge)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("9" * 30, 1e30),
        ("-" + "9" * 30, -1e30),
        ("9" * 5000, "9" * 5000),
        ("1e999", "1e999"),
        ("1e3", 1000),
        ("1e20", 1e20),
        ("0x" + "f" * 40, "0x" + "f" * 40),
        ("0b" + "1" * 70, "0b" + "1" * 70),
        ("0" * 70 + "1", 1),
        ("18446744073709551615", 2**64 - 1),
    ],
)
def test_yaml_numbers_that_nothing_can_hold_are_text_as_in_go(written: str, read: Any) -> None:
    assert yaml.load(f"a: {written}").value == {"a": read}


def test_yaml_that_is_json_is_refused_at_the_same_depth() -> None:
    text = b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"
    with pytest.raises(yaml.YamlError, match="max depth"):
        yaml.load(text)


def test_what_is_no_unicode_is_replaced() -> None:
    assert gojson.loads(b'{"a":"\\ud83d","b":"\xff"}') == {"a": "\ufffd", "b": "\ufffd"}
    assert gojson.loads_strict(b'{"a":"\\ud83d"}') == {"a": "\ufffd"}


@given(st.binary(max_size=200))
def test_no_bytes_break_the_json_reader(text: bytes) -> None:
    try:
        gojson.loads_strict(text)
    except gojson.JsonError as error:
        assert str(error)


# YAML


def test_yaml_is_read_by_the_rules_of_kubernetes() -> None:
    text = """
yes: [y, Off, on]
numbers: [010, 0x1F, 1e3, 1_000, 1.5, 0o14, 09]
strings: [2020-01-01, 1:30, '1', "yes", 1.2.3, 0.0.0.0/0, -]
nothing: [~, null, ]
1: int
block: |
  # not a comment
  text
"""
    assert yaml.load(text).value == {
        "true": [True, False, True],
        "numbers": [8, 31, 1000, 1000, 1.5, 12, 9],
        "strings": ["2020-01-01", "1:30", "1", "yes", "1.2.3", "0.0.0.0/0", "-"],
        "nothing": [None, None],
        "1": "int",
        "block": "# not a comment\ntext\n",
    }


def test_anchors_and_merges_are_followed() -> None:
    text = "a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  b: 3\n"
    assert yaml.load(text).value["d"] == {"b": 3, "c": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{bad", "yaml: line 1: did not find expected ',' or '}'"),
        ("a: [", "yaml: line 1: did not find expected node content"),
        ("a: b\n c: d\n", "yaml: line 2: mapping values are not allowed in this context"),
        ("a: *b", "yaml: unknown anchor 'b' referenced"),
        ("[" * 5000, "yaml: exceeded max depth"),
    ],
)
def test_broken_yaml_is_described_as_go_yaml_does(text: str, words: str) -> None:
    with pytest.raises(yaml.YamlError) as caught:
        yaml.load(text)
    assert str(caught.value) == words


def test_a_billion_laughs_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(yaml.YamlError, match="excessive aliasing"):
        yaml.load("\n".join(lines))


# Durations


@pytest.mark.parametrize(
    ("text", "written"),
    [("1h", "1h0m0s"), ("90s", "1m30s"), ("1500ms", "1.5s"), ("0", "0s"), ("1.5h", "1h30m0s"), ("-2us", "-2µs")],
)
def test_durations_are_written_as_go_does(text: str, written: str) -> None:
    assert duration_text(parse_duration(text)) == written


@pytest.mark.parametrize("text", ["", "1", "x", "1d", "1h x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        parse_duration(text)


# Custom resources


def test_a_custom_resource_is_only_pruned() -> None:
    node = SCHEMAS.custom(
        {
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {
                        "n": {"type": "integer"},
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    },
                }
            }
        }
    )
    value: Object = {
        "kind": "Toy",
        "metadata": {"name": "t", "zap": 1},
        "spec": {"n": "not a number", "free": {"x": 1}, "gone": {}},
    }
    obj, strict = shape(value, node)
    assert obj["spec"] == {"n": "not a number", "free": {"x": 1}}
    assert strict == ['unknown field "metadata.zap"', 'unknown field "spec.gone"']


def test_the_metadata_of_an_embedded_object_is_decoded_by_itself() -> None:
    embedded = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    spec = {"type": "object", "properties": {"emb": embedded}}
    node = SCHEMAS.custom({"properties": {"spec": spec}})
    value = {"spec": {"emb": {"kind": "Pod", "metadata": {"name": "n", "zap": 1}, "x": 1}}}
    obj, strict = shape(value, node)
    assert obj == {"spec": {"emb": {"kind": "Pod", "metadata": {"name": "n"}, "x": 1}}}
    assert strict == ['unknown field "spec.emb.metadata.zap"']
    words = (
        r'spec\.emb\.metadata: Invalid value: {"name":1}: json: cannot unmarshal number into Go struct field ObjectMeta'
    )
    with pytest.raises(DecodeError, match=words):
        shape({"spec": {"emb": {"metadata": {"name": 1}}}}, node)
