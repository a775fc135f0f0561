"""What a project builds and applies, from its skaffold.yaml or by convention."""

from pathlib import Path

import pytest

from podling.images import skaffold
from podling.images.errors import BuildError

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      initContainers: [{name: i, image: busybox}]
      containers:
      - {name: c, image: "%s"}
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_artifacts_and_manifests_are_read(tmp_path: Path) -> None:
    text = """\
apiVersion: skaffold/v4beta11
kind: Config
metadata: {name: shop}
build:
  tagPolicy: {sha256: {}}
  artifacts:
  - image: orders
    context: services/orders
    docker:
      dockerfile: build/Dockerfile
      target: prod
      buildArgs: {VERSION: "1", HOME_DIR: "{{.HOME}}"}
manifests:
  rawYaml: ["deploy/*.yaml"]
  kustomize: {paths: [overlays/dev]}
portForward:
- {resourceType: service, resourceName: orders, port: 80}
"""
    write(tmp_path, {"skaffold.yaml": text, "deploy/b.yaml": "b: 1", "deploy/a.yaml": "a: 1"})
    (tmp_path / "services/orders").mkdir(parents=True)
    (tmp_path / "overlays/dev").mkdir(parents=True)
    project = skaffold.load(tmp_path, environment={"HOME": "/h"})
    context = tmp_path / "services/orders"
    arguments = {"VERSION": "1", "HOME_DIR": "/h"}
    expected = skaffold.Artifact("orders", context, context / "build/Dockerfile", arguments, target="prod")
    assert project.artifacts == (expected,)
    assert project.manifests == (tmp_path / "deploy/a.yaml", tmp_path / "deploy/b.yaml")
    assert project.kustomizations == (tmp_path / "overlays/dev",)


def test_version_2_names_its_manifests_under_deploy(tmp_path: Path) -> None:
    text = "apiVersion: skaffold/v2beta29\nkind: Config\ndeploy:\n  kubectl:\n    manifests: [x.yaml]\n"
    write(tmp_path, {"skaffold.yaml": text, "x.yaml": "a: 1"})
    assert skaffold.load(tmp_path).manifests == (tmp_path / "x.yaml",)


def test_without_a_word_the_manifests_are_in_k8s(tmp_path: Path) -> None:
    write(tmp_path, {"skaffold.yaml": "apiVersion: skaffold/v3\nkind: Config\n", "k8s/a.yaml": "a: 1"})
    assert skaffold.load(tmp_path).manifests == (tmp_path / "k8s/a.yaml",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: Config", "skaffold.yaml:1: apiVersion is missing"),
        ("apiVersion: skaffold/v9", 'skaffold.yaml:1: unknown apiVersion "skaffold/v9"'),
        ("apiVersion: skaffold/v4beta1\nkind: Pod", 'skaffold.yaml:2: unknown kind "Pod"'),
        (
            "apiVersion: skaffold/v4beta1\nbuild:\n  artefacts: []",
            "skaffold.yaml:3: unknown field artefacts in build\n  Did you mean artifacts?",
        ),
        (
            "apiVersion: skaffold/v4beta1\nbuild:\n  artifacts:\n  - image: a\n    jib: {}",
            "skaffold.yaml:5: artifact builder jib is not supported",
        ),
        (
            "apiVersion: skaffold/v4beta1\nbuild:\n  artifacts:\n  - {}",
            "skaffold.yaml:4: build.artifacts[0].image is req",
        ),
        (
            "apiVersion: skaffold/v4beta1\nbuild:\n  artifacts:\n  - image: Bad",
            'skaffold.yaml:4: couldn\'t parse image name "Bad"',
        ),
        ("apiVersion: skaffold/v4beta1\nmanifests:\n  helm: {}", "skaffold.yaml:3: manifests.helm is not supported"),
        ("apiVersion: skaffold/v4beta1\nmanifests:\n  rawYaml: [no/*.yaml]", "no manifest matches no/*.yaml"),
        ("a: [", "skaffold.yaml:2: not valid YAML"),
        ("- 1", "skaffold.yaml:1: expected a mapping"),
        ("", "skaffold.yaml: the file is empty"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, {"skaffold.yaml": text})
    with pytest.raises(BuildError) as caught:
        skaffold.load(tmp_path)
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(message)


def test_by_convention_the_directory_of_a_dockerfile_names_its_image(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "k8s/cart.yaml": DEPLOYMENT % "ghcr.io/me/cart:v2",
            "k8s/db.yml": DEPLOYMENT % "postgres:16",
            "services/cart/Dockerfile": "FROM scratch",
            "node_modules/cart/Dockerfile": "FROM scratch",
        },
    )
    project = skaffold.load(tmp_path)
    assert [(a.image, a.context) for a in project.artifacts] == [("ghcr.io/me/cart", tmp_path / "services/cart")]
    assert project.manifests == (tmp_path / "k8s/cart.yaml", tmp_path / "k8s/db.yml")


def test_by_convention_the_dockerfile_at_the_top_is_the_one_image_left(tmp_path: Path) -> None:
    write(tmp_path, {"k8s/web.yaml": DEPLOYMENT % "my-monitor-app:v1", "Dockerfile": "FROM scratch"})
    [artifact] = skaffold.load(tmp_path).artifacts
    assert (artifact.image, artifact.context) == ("my-monitor-app", tmp_path)


def test_two_images_for_one_dockerfile_is_a_question(tmp_path: Path) -> None:
    write(tmp_path, {"k8s/a.yaml": DEPLOYMENT % "a", "k8s/b.yaml": DEPLOYMENT % "b", "Dockerfile": "FROM scratch"})
    with pytest.raises(BuildError, match="could be for any of: a, b"):
        skaffold.load(tmp_path)


def test_nothing_to_go_by_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no skaffold\.yaml and no k8s/ directory"):
        skaffold.load(tmp_path)


def test_an_image_is_built_under_the_names_that_the_manifests_use(tmp_path: Path) -> None:
    artifact = skaffold.Artifact("app", tmp_path, tmp_path / "Dockerfile", {})
    images = ["app:v1", "docker.io/library/app:v2", "other:v1", "app:v1", "not a name"]
    assert skaffold.tags(artifact, images) == ["app:v1", "docker.io/library/app:v2"]
    assert skaffold.tags(artifact, ["other"]) == ["app"]
