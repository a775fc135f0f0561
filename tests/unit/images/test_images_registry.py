"""Pulling from a registry: a real one speaks over loopback, and sometimes badly."""

import asyncio
import json
import socket
from collections.abc import Generator
from pathlib import Path

import pytest
from registry_server import INDEX, Shelf, serving, sha256, tar

from podling.images import registry
from podling.images.credentials import Credentials
from podling.images.errors import ImageError
from podling.images.host import Host
from podling.images.manager import Images, Policy
from podling.images.registry import Registry
from podling.images.runtime import NodeImages
from podling.images.store import Image


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Shelf]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(registry, "_ATTEMPTS", 2)
    with serving() as found:
        yield found


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "images", registry=Registry(architecture="amd64"))


def ensure(images: Images, name: str, policy: Policy = "IfNotPresent", **documents: object) -> Image:
    return asyncio.run(images.ensure(name, policy, credentials=Credentials(list(documents.values()))))  # type: ignore[arg-type]


def test_an_image_is_pulled_unpacked_and_kept(shelf: Shelf, images: Images) -> None:
    digest = shelf.image("v1", tar(a="1"), tar(b="2"), Env=["A=1"], Cmd=["run"])
    image = ensure(images, f"{shelf.host}/team/app:v1")
    assert [(Path(lower) / name).read_text() for lower, name in zip(image.lowers, "ba", strict=True)] == ["2", "1"]
    assert (image.config.cmd, image.digest, image.origin) == (("run",), digest, "pulled")
    asked = len(shelf.requests)
    assert ensure(images, f"{shelf.host}/team/app:v1") == image
    assert len(shelf.requests) == asked


def test_always_asks_again_but_fetches_only_what_is_new(shelf: Shelf, images: Images) -> None:
    shelf.image("v1", tar(a="1"))
    first = ensure(images, f"{shelf.host}/app:v1", "Always")
    shelf.image("v1", tar(a="1"), tar(b="2"))
    shelf.requests.clear()
    second = ensure(images, f"{shelf.host}/app:v1", "Always")
    assert first.id != second.id
    assert len([path for path in shelf.requests if "/blobs/" in path]) == 2, "the configuration and the new layer"


def test_never_means_never(shelf: Shelf, images: Images) -> None:
    with pytest.raises(ImageError) as caught:
        ensure(images, f"{shelf.host}/app:v1", "Never")
    assert caught.value.reason == "ErrImageNeverPull"
    assert caught.value.message == f'Container image "{shelf.host}/app:v1" is not present with pull policy of Never'
    assert shelf.requests == []


def test_the_platforms_manifest_is_chosen(shelf: Shelf, images: Images) -> None:
    arm, amd = shelf.image("arm", tar(arch="arm")), shelf.image("amd", tar(arch="amd"))
    places = [(arm, "arm64"), (amd, "amd64")]
    entries = [{"digest": d, "platform": {"os": "linux", "architecture": a}} for d, a in places]
    index = shelf.manifest("v1", {"schemaVersion": 2, "manifests": entries}, INDEX)
    image = ensure(images, f"{shelf.host}/app:v1")
    assert (Path(image.lowers[0]) / "arch").read_text() == "amd"
    assert image.digest == index
    with pytest.raises(ImageError, match="no match for platform in manifest"):
        asyncio.run(
            Images(images.store.root / "x", registry=Registry(architecture="s390x")).ensure(
                f"{shelf.host}/app:v1", "Always"
            )
        )


def test_a_digest_is_checked(shelf: Shelf, images: Images) -> None:
    digest = shelf.image("v1", tar(a="1"))
    assert ensure(images, f"{shelf.host}/app@{digest}").digest == digest
    wrong = "sha256:" + "0" * 64
    shelf.manifests[wrong] = shelf.manifests["v1"]
    with pytest.raises(ImageError, match="digest mismatch"):
        ensure(images, f"{shelf.host}/app@{wrong}")


def test_a_download_that_breaks_is_taken_up_again(shelf: Shelf, images: Images) -> None:
    shelf.image("v1", tar(a="x" * 50_000), compress=False)
    reading = {"count": 0}
    original = shelf.blobs

    class Breaking(dict[str, bytes]):
        def __getitem__(self, key: str) -> bytes:
            data = original[key]
            if len(data) > 40_000 and not reading["count"]:
                reading["count"] = 1
                shelf.break_after = 30_000
            return data

    shelf.blobs = Breaking(original)
    image = ensure(images, f"{shelf.host}/app:v1")
    assert (Path(image.lowers[0]) / "a").stat().st_size == 50_000
    assert shelf.ranges == ["bytes=30000-"]


def test_a_changed_blob_is_refused(shelf: Shelf, images: Images) -> None:
    shelf.image("v1", tar(a="1"))
    layer = next(digest for digest, data in shelf.blobs.items() if data.startswith(b"\x1f\x8b"))
    shelf.blobs[layer] = b"something else"
    with pytest.raises(ImageError, match="digest mismatch") as caught:
        ensure(images, f"{shelf.host}/app:v1")
    assert caught.value.reason == "ErrImagePull"
    assert images.list() == []


def test_a_layer_that_is_not_what_the_configuration_promises_is_refused(shelf: Shelf, images: Images) -> None:
    shelf.image("v1", tar(a="1"), diff_ids=[sha256(b"other")])
    with pytest.raises(ImageError, match="wrong diff id calculated on extraction"):
        ensure(images, f"{shelf.host}/app:v1")


def test_an_evil_layer_is_refused(shelf: Shelf, images: Images) -> None:
    shelf.image("v1", tar(**{"../../evil": "x"}))
    with pytest.raises(ImageError, match="path leaves the layer"):
        ensure(images, f"{shelf.host}/app:v1")
    assert not (images.store.root / "evil").exists()


def test_an_unknown_image_is_not_found(shelf: Shelf, images: Images) -> None:
    name = f"{shelf.host}/app:v9"
    with pytest.raises(ImageError) as caught:
        ensure(images, name)
    assert caught.value.message == (
        f'rpc error: code = NotFound desc = failed to pull and unpack image "{name}": '
        f'failed to resolve reference "{name}": {name}: not found'
    )


@pytest.mark.parametrize("basic", [False, True])
def test_a_pull_secret_opens_the_door(shelf: Shelf, images: Images, basic: bool) -> None:
    shelf.login, shelf.basic = "me:secret", basic
    shelf.image("v1", tar(a="1"))
    name = f"{shelf.host}/app:v1"
    with pytest.raises(ImageError, match=r"authorization failed|no basic auth|failed to authorize"):
        ensure(images, name)
    secret = {"auths": {f"http://{shelf.host}": {"username": "me", "password": "secret"}}}
    assert ensure(images, name, secret=secret).origin == "pulled"


def test_docker_login_is_used(shelf: Shelf, images: Images, tmp_path: Path) -> None:
    shelf.login = "me:secret"
    shelf.image("v1", tar(a="1"))
    (tmp_path / "docker").mkdir()
    document = {"auths": {shelf.host: {"auth": "bWU6c2VjcmV0"}}}
    (tmp_path / "docker/config.json").write_text(json.dumps(document))
    assert ensure(images, f"{shelf.host}/app:v1").origin == "pulled"


def test_an_anonymous_token_is_fetched_once(shelf: Shelf, images: Images) -> None:
    shelf.login = "anonymous"
    shelf.image("v1", tar(a="1"), tar(b="2"))
    ensure(images, f"{shelf.host}/app:v1")
    assert len([path for path in shelf.requests if path.startswith("/token")]) == 1


def test_blobs_may_lie_elsewhere(shelf: Shelf, images: Images) -> None:
    with serving() as elsewhere:
        shelf.login = "anonymous"
        shelf.image("v1", tar(a="1"))
        elsewhere.blobs, shelf.redirect_to = shelf.blobs, f"http://{elsewhere.host}"
        assert ensure(images, f"{shelf.host}/app:v1").origin == "pulled"


def test_who_does_not_answer_is_not_asked_again(images: Images) -> None:
    asked: list[str] = []

    def connect(host: str, port: int, timeout: float) -> socket.socket:
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    lonely = Images(images.store.root, registry=Registry(connect=connect))
    for name in ("app:v1", "other:v1"):
        with pytest.raises(ImageError) as caught:
            ensure(lonely, name)
        full = f"docker.io/library/{name}"
        assert caught.value.message == (
            f'rpc error: code = Unknown desc = failed to pull and unpack image "{full}": '
            f'failed to resolve reference "{full}": failed to do request: '
            f'Head "https://registry-1.docker.io/v2/library/{name.replace(":", "/manifests/")}": '
            "dial tcp: lookup registry-1.docker.io: no such host"
        )
    assert asked == ["registry-1.docker.io"]


def test_a_refused_connection_is_said(images: Images) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ImageError, match=f"dial tcp {host}: connect: connection refused"):
        ensure(images, f"{host}/app:v1")


def test_a_page_that_is_no_registrys_counts_as_no_answer(shelf: Shelf, images: Images) -> None:
    shelf.status, shelf.body = 403, b"<html>blocked</html>"
    with pytest.raises(ImageError, match="no registry's answer"):
        ensure(images, f"{shelf.host}/app:v1")


def test_the_host_stands_in_only_when_no_registry_answers(shelf: Shelf, tmp_path: Path) -> None:
    images = Images(tmp_path / "i", registry=Registry(), machine=Host(tmp_path, {"PATH": "/usr/bin"}))
    with pytest.raises(ImageError, match="not found"):
        ensure(images, f"{shelf.host}/busybox:1")
    shelf.status, shelf.body = 503, b"down"
    image = ensure(images, f"{shelf.host}/busybox:1")
    assert image.host_base
    assert image.note.startswith(f"{shelf.host}/busybox:1: no registry answered; standing in with the host's ")
    assert images.list() == []


def test_what_was_built_here_needs_no_registry(shelf: Shelf, images: Images, tmp_path: Path) -> None:
    from podling.images import builder

    (tmp_path / "c").mkdir()
    (tmp_path / "c/Dockerfile").write_text("FROM scratch\n")
    built = builder.build(tmp_path / "c", images=images, tags=[f"{shelf.host}/app"])
    assert ensure(images, f"{shelf.host}/app", "Always").id == built.id
    assert shelf.requests == []


def test_the_node_asks_what_is_present_before_it_pulls(shelf: Shelf, images: Images) -> None:
    shelf.image("v1", tar(a="12345"), Env=["A=1"], Cmd=["run"], WorkingDir="/w")
    node, name = NodeImages(images), f"{shelf.host}/app:v1"
    assert node.present(name, "IfNotPresent") is None
    image = asyncio.run(node.pull(name, "IfNotPresent", []))
    assert (image.config.env, image.config.cmd, image.config.working_dir) == (("A=1",), ("run",), "/w")
    assert node.present(name, "IfNotPresent") == node.present(name, "Never") == image
    assert node.present(name, "Always") is None
    assert node.size(image) >= 5


def test_equal_requests_share_one_pull(shelf: Shelf, images: Images) -> None:
    shelf.image("v1", tar(a="1"))

    async def many() -> None:
        await asyncio.gather(*(images.ensure(f"{shelf.host}/app:v1", "IfNotPresent") for _ in range(5)))

    asyncio.run(many())
    assert len([path for path in shelf.requests if "/manifests/" in path]) == 1
