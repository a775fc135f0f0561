"""Manifests are read with their places, in an order that works."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from podling.cli import manifests
from podling.cli.manifests import BUILT, Manifest

CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n"
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: front}
spec:
  template:
    spec:
      initContainers: [{name: first, image: "setup:1"}]
      containers: [{name: web, image: "web:1"}, {name: side, image: "side:2"}]
"""


def parsed(text: str) -> list[Manifest]:
    return manifests.parse(text, "d.yaml")


def refusal(text: str) -> str:
    with pytest.raises(click.ClickException) as caught:
        parsed(text)
    return caught.value.message


def test_each_object_knows_the_line_on_which_it_begins() -> None:
    found = parsed(f"# words\n{CONFIG_MAP}---\n---\n{DEPLOYMENT}")
    assert [(str(m), m.source, m.namespace) for m in found] == [
        ("configmap/settings", "d.yaml:2", "default"),
        ("deployment/web", "d.yaml:7", "front"),
    ]


def test_lists_are_taken_apart() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n"
    assert [str(m) for m in parsed(text)] == ["pod/a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b\nc: {\n", "d.yaml:3: not valid YAML"),
        ("- 1\n", "d.yaml:1: an object is expected here, not list"),
        ("kind: Pod\n", "d.yaml:1: apiVersion is not set"),
        ("apiVersion: v1\nkind: 7\n", "d.yaml:1: kind is not set"),
        ("apiVersion: v1\nkind: Pod\n", "d.yaml:1: metadata.name is not set on this Pod"),
        ("apiVersion: v1\nkind: Pod\nmetadata: name\n", "d.yaml:1: metadata.name is not set on this Pod"),
        ("a: !!python/object:os.system {}\n", "d.yaml:1: not valid YAML"),
    ],
)
def test_what_is_no_object_is_refused_with_its_place(text: str, message: str) -> None:
    assert message in refusal(text)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(click.ClickException, match="is no text file"):
        manifests.read([file])


def test_what_others_need_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: front}\n"
    file.write_text(f"{DEPLOYMENT}---\n{CONFIG_MAP}---\n{namespace}")
    assert [m.kind for m in manifests.read([file])] == ["Namespace", "ConfigMap", "Deployment"]


def test_images_are_those_of_all_containers_each_once() -> None:
    assert manifests.images(parsed(f"{DEPLOYMENT}---\n{DEPLOYMENT}")) == ["setup:1", "web:1", "side:2"]


def test_built_images_are_written_on_the_template_so_that_a_new_build_is_rolled_out() -> None:
    found = parsed(f"{DEPLOYMENT}---\n{CONFIG_MAP}")
    manifests.mark_built(found, {"web:1": "sha256:abc", "unused:1": "sha256:def"})
    template = found[0].object["spec"]["template"]
    assert template["metadata"]["annotations"] == {BUILT: '{"web:1": "sha256:abc"}'}
    assert "annotations" not in found[1].object["metadata"]


def test_malformed_templates_are_left_for_the_api_to_refuse() -> None:
    for template in ("7", "{spec: 7}", "{spec: {containers: 7}}", "{spec: {containers: [7]}}"):
        text = f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: x}}\nspec: {{template: {template}}}\n"
        found = parsed(text)
        assert manifests.images(found) == []
        manifests.mark_built(found, {"web:1": "sha256:abc"})
