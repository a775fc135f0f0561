"""Where a cluster keeps its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from podling.layout import SOCKET_PATH_LIMIT, BadClusterName, Layout, cluster_names, default_home


def test_the_default_cluster_is_plainly_podling_and_others_are_prefixed() -> None:
    assert Layout.of("podling").context == "podling"
    assert Layout.of("ci").context == "podling-ci"


@pytest.mark.parametrize("name", ["", "Prod", "-a", "a-", "a.b", "../x", "a" * 41])
def test_a_name_that_cannot_be_a_dns_label_is_refused(name: str) -> None:
    with pytest.raises(BadClusterName, match="cannot name a cluster"):
        Layout.of(name)


def test_sockets_have_short_paths_also_below_a_deep_home(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    assert len(str(Layout.of("x", deep).run)) <= SOCKET_PATH_LIMIT
    assert Layout.of("x", deep).run != Layout.of("y", deep).run


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PODLING_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_home() == tmp_path / "podling"
    monkeypatch.setenv("PODLING_HOME", str(tmp_path / "p"))
    assert default_home() == tmp_path / "p"


def test_only_directories_with_a_record_are_clusters(tmp_path: Path) -> None:
    (tmp_path / "clusters" / "half").mkdir(parents=True)
    (tmp_path / "clusters" / "whole").mkdir()
    (tmp_path / "clusters" / "whole" / "cluster.json").write_text("{}")
    assert cluster_names(tmp_path) == ["whole"]
    assert cluster_names(tmp_path / "nowhere") == []
