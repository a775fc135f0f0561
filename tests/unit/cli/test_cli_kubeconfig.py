"""The user's kubeconfig holds what it held before, and our context."""

from __future__ import annotations

import stat
from pathlib import Path

import click
import pytest
import yaml

from podling.cli import kubeconfig
from podling.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout.of("staging", tmp_path / "home")
    layout.pki.mkdir(parents=True)
    for name in ("ca.crt", "admin.crt", "admin.key"):
        (layout.pki / name).write_text(name)
    return layout


OTHERS = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "prod", "cluster": {"server": "https://prod"}}],
    "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": "me", "namespace": "x"}}],
    "users": [{"name": "me", "user": {"token": "t"}}],
    "current-context": "prod",
    "x-own-extension": {"kept": True},
}


def test_a_new_file_is_private_and_current(layout: Layout, tmp_path: Path) -> None:
    file = tmp_path / ".kube" / "config"
    kubeconfig.merge(file, kubeconfig.for_cluster(layout, "https://127.0.0.1:6443"))
    config = yaml.safe_load(file.read_text())
    assert config["current-context"] == "podling-staging"
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_merging_and_removing_leaves_the_others_as_they_were(layout: Layout, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(OTHERS))
    kubeconfig.merge(file, kubeconfig.for_cluster(layout, "https://127.0.0.1:6443"))
    kubeconfig.merge(file, kubeconfig.for_cluster(layout, "https://127.0.0.1:7443"))
    merged = yaml.safe_load(file.read_text())
    assert [c["name"] for c in merged["clusters"]] == ["prod", "podling-staging"]
    assert merged["clusters"][1]["cluster"]["server"] == "https://127.0.0.1:7443"
    kubeconfig.remove(file, "podling-staging")
    assert yaml.safe_load(file.read_text()) == {**OTHERS, "current-context": ""}
    assert not file.with_name("config.lock").exists()


def test_removing_what_is_not_there_does_not_touch_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config"
    kubeconfig.remove(file, "podling")
    assert not file.exists()
    file.write_text(yaml.safe_dump(OTHERS))
    before = file.stat().st_mtime_ns
    kubeconfig.remove(file, "podling")
    assert file.stat().st_mtime_ns == before


def test_a_linked_kubeconfig_stays_a_link(layout: Layout, tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text(yaml.safe_dump(OTHERS))
    link.symlink_to(real)
    kubeconfig.merge(link, kubeconfig.for_cluster(layout, "https://127.0.0.1:6443"))
    assert link.is_symlink()
    assert yaml.safe_load(real.read_text())["current-context"] == "podling-staging"


def test_a_broken_file_is_left_alone_with_a_clear_word(layout: Layout, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("a: [unclosed")
    with pytest.raises(click.ClickException, match="no valid YAML, so it is left alone"):
        kubeconfig.merge(file, kubeconfig.for_cluster(layout, "https://127.0.0.1:6443"))
    assert file.read_text() == "a: [unclosed"


def test_a_foreign_lock_is_named(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config"
    file.with_name("config.lock").touch()
    monkeypatch.setattr(kubeconfig, "LOCK_PATIENCE", 0.0)
    with pytest.raises(click.ClickException, match=r"remove .*config\.lock"):
        kubeconfig.merge(file, kubeconfig.for_cluster(layout, "https://127.0.0.1:6443"))
