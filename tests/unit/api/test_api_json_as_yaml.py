"""JSON that is sent as YAML reads the same on its short way as on the long one."""

import pytest

from podling.api import gojson, yaml
from podling.api.structs import RepeatedKeys


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": [1, true, null, "x"]}', {"a": [1, True, None, "x"]}),
        (b'{"a": 1.0, "b": 1e3, "c": 1.5}', {"a": 1, "b": 1000, "c": 1.5}),
        (b'{"a": "1.5", "b": "yes"}', {"a": "1.5", "b": "yes"}),
        (b'{"a": "\\u0022"}', {"a": '"'}),
    ],
)
def test_json_has_the_value_that_yaml_gives_it(text: bytes, value: object) -> None:
    assert yaml.load(text).value == value
    assert yaml.load(b" " + text).value == value


def test_repeated_keys_are_reported_also_of_json() -> None:
    assert yaml.load(b'{"a": 1, "a": 2}').repeated == ['line 1: key "a" already set in map']


@pytest.mark.parametrize("text", [b'{"a":1,"a":2}', b'{ "a": "x", "a": "\\u0022\\u0022" }', b'{"b":{"a":[],"a":[]}}'])
def test_repeated_keys_are_seen_however_the_text_is_spaced_or_escaped(text: bytes) -> None:
    found = gojson.loads_strict(text)
    inner = found.get("b", found)
    assert isinstance(inner, RepeatedKeys)
    assert inner.repeated == ("a",)
