"""Volumes that show objects: their files, and how they change all at once."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from node_fakes import FakeClient, FakeImages, make_pod

from podling.node import atomic
from podling.node.environment import ConfigError, PodContext
from podling.node.payload import File, VolumeError, payload
from podling.node.volumes import SetupError, Volumes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def client() -> FakeClient:
    client = FakeClient()
    data = {"k": "v", "deep": "d"}
    client.put("configmaps", {"metadata": {"name": "cfg", "namespace": "default"}, "data": data})
    secret = {"s": base64.b64encode(b"\xffx").decode()}
    client.put("secrets", {"metadata": {"name": "sec", "namespace": "default"}, "data": secret})
    return client


def context(**spec: Any) -> PodContext:
    return PodContext(make_pod(**spec), "10.244.0.7", "10.244.0.1", {})


def files(volume: dict[str, Any], client: FakeClient) -> dict[str, File]:
    return payload({"name": "v", **volume}, context(), client, {})


def test_keys_become_files(client: FakeClient) -> None:
    assert files({"configMap": {"name": "cfg"}}, client) == {"k": File(b"v", 0o644), "deep": File(b"d", 0o644)}
    assert files({"secret": {"secretName": "sec", "defaultMode": 0o400}}, client) == {"s": File(b"\xffx", 0o400)}


def test_items_choose_paths_and_modes(client: FakeClient) -> None:
    items = [{"key": "deep", "path": "a/b", "mode": 0o600}]
    assert files({"configMap": {"name": "cfg", "items": items}}, client) == {"a/b": File(b"d", 0o600)}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        (
            {"configMap": {"name": "cfg", "items": [{"key": "x", "path": "x"}]}},
            "configmap references non-existent config key: x",
        ),
        (
            {"secret": {"secretName": "sec", "items": [{"key": "x", "path": "x"}]}},
            "references non-existent secret key: x",
        ),
    ],
)
def test_what_is_missing_is_said(volume: dict[str, Any], message: str, client: FakeClient) -> None:
    with pytest.raises(VolumeError) as error:
        files(volume, client)
    assert str(error.value) == message
    source = next(iter(volume.values()))
    assert files({next(iter(volume)): {**source, "optional": True}}, client) == {}


class TestAtomicWriter:
    def test_names_lead_through_one_link(self, tmp_path: Path) -> None:
        assert atomic.write(tmp_path, {"a": File(b"1", 0o644), "d/e": File(b"2", 0o400)}, NOW)
        assert (tmp_path / "a").read_bytes() == b"1"
        assert (tmp_path / "a").readlink() == Path("..data/a")
        assert (tmp_path / "d" / "e").stat().st_mode & 0o777 == 0o400

    def test_the_same_again_writes_nothing(self, tmp_path: Path) -> None:
        content = {"a": File(b"1", 0o644)}
        atomic.write(tmp_path, content, NOW)
        assert not atomic.write(tmp_path, content, LATER)

    def test_a_change_leaves_no_old_names_behind(self, tmp_path: Path) -> None:
        atomic.write(tmp_path, {"a": File(b"1", 0o644), "b": File(b"1", 0o644)}, NOW)
        assert atomic.write(tmp_path, {"a": File(b"2", 0o644), "c": File(b"3", 0o644)}, LATER)
        names = sorted(entry.name for entry in tmp_path.iterdir())
        assert names == ["..2026_01_02_00_00_00.000000", "..data", "a", "c"]
        assert (tmp_path / "a").read_bytes() == b"2"


class TestVolumes:
    def set_up(self, directory: Path, client: FakeClient, *volumes: dict[str, Any], **spec: Any) -> Volumes:
        made = Volumes(directory, client, FakeImages())  # pyright: ignore[reportArgumentType]
        asyncio.run(made.set_up(context(volumes=list(volumes), **spec), NOW.timestamp()))
        return made

    def test_a_token_is_asked_for_and_renewed_in_time(self, tmp_path: Path, client: FakeClient) -> None:
        token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
        made = self.set_up(tmp_path, client, {"name": "t", "projected": {"sources": [token]}})
        (mount,) = made.mounts({"volumeMounts": [{"name": "t", "mountPath": "/t"}]}, {})
        assert mount.get("read_only")
        assert (Path(mount.get("source", "")) / "token").read_text().startswith("token-")
        renewal = made.next_renewal()
        assert renewal is not None
        assert renewal > NOW.timestamp()

    def test_an_empty_directory_is_everybodys(self, tmp_path: Path, client: FakeClient) -> None:
        self.set_up(tmp_path, client, {"name": "e", "emptyDir": {}})
        assert (tmp_path / "empty" / "e").stat().st_mode & 0o777 == 0o777

    def test_host_paths_are_checked(self, tmp_path: Path, client: FakeClient) -> None:
        file = tmp_path / "file"
        file.touch()
        with pytest.raises(SetupError) as error:
            self.set_up(tmp_path, client, {"name": "h", "hostPath": {"path": str(file), "type": "Directory"}})
        text = f'MountVolume.SetUp failed for volume "h" : hostPath type check failed: {file} is not a directory'
        assert str(error.value) == text
        self.set_up(
            tmp_path, client, {"name": "h", "hostPath": {"path": str(tmp_path / "x/y"), "type": "DirectoryOrCreate"}}
        )
        assert (tmp_path / "x" / "y").is_dir()

    def test_a_claim_is_the_directory_of_its_volume(self, tmp_path: Path, client: FakeClient) -> None:
        volume = {"name": "d", "persistentVolumeClaim": {"claimName": "c"}}
        with pytest.raises(SetupError, match='persistentvolumeclaim "c" not found'):
            self.set_up(tmp_path, client, volume)
        claim = {"metadata": {"name": "c", "namespace": "default"}, "spec": {"volumeName": "pv"}}
        client.put("persistentvolumeclaims", {**claim, "status": {"phase": "Bound"}})
        client.put(
            "persistentvolumes", {"metadata": {"name": "pv"}, "spec": {"hostPath": {"path": str(tmp_path / "pv")}}}
        )
        made = self.set_up(tmp_path / "v", client, volume)
        (mount,) = made.mounts({"volumeMounts": [{"name": "d", "mountPath": "/d", "readOnly": True}]}, {})
        assert mount == {"target": "/d", "type": "bind", "source": str(tmp_path / "pv"), "read_only": True}

    def test_outer_mounts_come_first_and_sub_paths_expand(self, tmp_path: Path, client: FakeClient) -> None:
        made = self.set_up(tmp_path, client, {"name": "e", "emptyDir": {}})
        mounts = [
            {"name": "e", "mountPath": "/a/b", "subPathExpr": "x-$(N)"},
            {"name": "e", "mountPath": "/a", "subPath": "y"},
        ]
        found = made.mounts({"volumeMounts": mounts}, {"N": "1"})
        assert [(mount["target"], mount.get("sub_path")) for mount in found] == [("/a", "y"), ("/a/b", "x-1")]
        with pytest.raises(ConfigError, match="missing value for N"):
            made.mounts({"volumeMounts": mounts}, {})
        with pytest.raises(ConfigError, match=r"unable to provision SubPath `x-/../y`: must not contain '..'"):
            made.mounts({"volumeMounts": mounts}, {"N": "/../y"})
