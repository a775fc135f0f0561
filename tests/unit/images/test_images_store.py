"""The store never shows anything half-done, shares what is equal, and gives back what nobody uses."""

import threading
import time
from pathlib import Path

import pytest

from podling.images import config, references
from podling.images.config import ImageConfig, ImageDocument
from podling.images.errors import ImageError
from podling.images.store import Image, Store


def add_layer(store: Store, **files: str) -> str:
    with store.staging() as staging:
        tree = staging / "layer"
        tree.mkdir()
        for name, text in files.items():
            (tree / name).write_text(text)
        return store.commit(tree)


def add(store: Store, name: str, *diff_ids: str, env: str = "A=1") -> Image:
    document = config.encode(ImageDocument(ImageConfig(env=(env,)), diff_ids))
    return store.add(document, [references.parse(name)], origin="built")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "images")


def test_an_image_is_found_by_name(store: Store) -> None:
    bottom, top = add_layer(store, a="1"), add_layer(store, b="2")
    image = add(store, "app:v1", bottom, top)
    found = store.find(references.parse("docker.io/library/app:v1"))
    assert found == image
    assert image.lowers == (str(store.layer(top)), str(store.layer(bottom)))
    assert (store.layer(top) / "b").read_text() == "2"
    assert store.size(image.id) == 2
    assert store.find(references.parse("app:v2")) is None


def test_a_layer_that_occurs_twice_is_stacked_once(store: Store) -> None:
    one, two = add_layer(store, a="1"), add_layer(store, b="2")
    assert store.lowers([one, two, one]) == (str(store.layer(one)), str(store.layer(two)))


def test_equal_documents_are_one_image(store: Store) -> None:
    assert add(store, "a:1").id == add(store, "b:1").id
    assert [image.reference for image in store.images()] == ["docker.io/library/a:1", "docker.io/library/b:1"]


def test_a_name_moves_to_the_new_image(store: Store) -> None:
    add(store, "a:1")
    second = add(store, "a:1", env="A=2")
    found = store.find(references.parse("a:1"))
    assert found is not None
    assert found.id == second.id


def test_many_writers_lose_nothing(store: Store) -> None:
    threads = [threading.Thread(target=add, args=(Store(store.root), f"app:{n}")) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.images()) == 20


def test_what_no_name_leads_to_is_pruned(store: Store) -> None:
    shared, own = add_layer(store, a="1"), add_layer(store, b="2")
    cached = add_layer(store, c="3")
    store.remember("key", cached)
    add(store, "a:1", shared)
    gone = add(store, "b:1", shared, own, env="A=2")
    assert store.remove(references.parse("b:1"))
    assert not store.remove(references.parse("b:1"))
    later = time.time() + 7200
    assert store.prune(keep=[gone.id], now=later) == 0
    assert store.prune() == 0, "what is new may be about to get a name"
    assert store.prune(now=later) == 1
    assert (store.has_layer(shared), store.has_layer(own)) == (True, False)
    assert store.recall("key") == cached
    assert store.prune(cache=True, now=later) == 1
    assert store.recall("key") == ""


def test_a_failed_step_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.staging() as staging:
        (staging / "half").write_text("x")
        raise RuntimeError
    assert list((store.root / "staging").iterdir()) == []


def test_a_damaged_configuration_is_named(store: Store) -> None:
    image = add(store, "a:1")
    next((store.root / "configs").iterdir()).write_text("[]")
    with pytest.raises(ImageError, match="Failed to inspect image") as caught:
        store.document(image.id)
    assert caught.value.reason == "ImageInspectError"


def test_a_document_survives_the_way_through_json() -> None:
    document = ImageDocument(
        ImageConfig(
            env=("A=1",),
            entrypoint=("e",),
            cmd=("c",),
            working_dir="/w",
            user="u",
            stop_signal="SIGQUIT",
            exposed_ports=("80/tcp",),
            volumes=("/v",),
            labels={"l": "1"},
            shell=("s",),
            on_build=("RUN x",),
            healthcheck=config.Healthcheck(("CMD", "x"), interval=5, retries=2),
        ),
        ("sha256:a",),
        host_base=True,
        host_paths=("/opt/x",),
        history=("FROM scratch",),
    )
    assert config.decode(config.encode(document)) == document
