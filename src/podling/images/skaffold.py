"""What a project consists of: which images to build from where, and which manifests to apply.

`skaffold.yaml` is a file that people already have, and it says exactly this (skaffold.dev/docs/references/yaml);
versions v2 to v4 are read. What concerns how skaffold itself works (tag policies, port forwards, profiles) is left
alone; what would change the result and cannot be done here is refused with the line. Without the file, `k8s/` and the
Dockerfiles below the project are found by convention.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from podling.images import references, yamltree
from podling.images.errors import BuildError
from podling.images.yamltree import Tree


@dataclass(frozen=True, slots=True)
class Artifact:
    """An image to build. `image` is the name as manifests use it, mostly without a tag."""

    image: str
    context: Path
    dockerfile: Path
    build_args: dict[str, str]
    target: str = ""
    no_cache: bool = False


@dataclass(frozen=True, slots=True)
class Project:
    """`manifests` are files, in order; `kustomizations` are directories for kustomize."""

    root: Path
    source: str
    artifacts: tuple[Artifact, ...]
    manifests: tuple[Path, ...]
    kustomizations: tuple[Path, ...] = ()


CONFIG_NAMES = ("skaffold.yaml", "skaffold.yml")
MANIFEST_DIRECTORIES = ("k8s", "kubernetes", "manifests")
_DEFAULT_MANIFESTS = "k8s/*.yaml"
_API_VERSION = re.compile(r"skaffold/v([234])(?:(?:alpha|beta)\d+)?")
_SKIPPED_DIRECTORIES = {"node_modules", "venv", "vendor", "dist", "build", "__pycache__"}
_SEARCH_DEPTH = 3

_TOP = (
    *("apiVersion", "kind", "metadata", "requires", "build", "test", "manifests", "render", "deploy", "portForward"),
    *("resourceSelector", "profiles", "verify", "customActions"),
)
_BUILD = (
    *("artifacts", "insecureRegistries", "tagPolicy", "platforms", "local", "googleCloudBuild", "cluster"),
    *("hooks", "concurrency"),
)
_ARTIFACT = (
    *("image", "context", "docker", "sync", "requires", "hooks", "platforms", "runtimeType", "workspace"),
    *("bazel", "jib", "jibMaven", "jibGradle", "kaniko", "buildpacks", "custom", "ko"),
)
_OTHER_BUILDERS = ("bazel", "jib", "jibMaven", "jibGradle", "kaniko", "buildpacks", "custom", "ko")
_DOCKER = (
    *("dockerfile", "target", "buildArgs", "network", "addHost", "cacheFrom", "cliFlags", "pullParent", "noCache"),
    *("squash", "secrets", "ssh"),
)
_MANIFESTS = ("rawYaml", "kustomize", "helm", "kpt", "hooks", "transform", "validate", "output")
_DEPLOY = (
    *("kubectl", "kustomize", "helm", "kpt", "docker", "cloudrun", "statusCheck", "statusCheckDeadlineSeconds"),
    *("tolerateFailuresUntilDeadline", "kubeContext", "logs", "transformableAllowList"),
)
_NOT_DEPLOYABLE = ("helm", "kpt", "docker", "cloudrun")


def load(root: Path, *, environment: Mapping[str, str] = os.environ) -> Project:
    """The project in a directory: from `skaffold.yaml`, else by convention; raises `BuildError`."""
    for name in CONFIG_NAMES:
        file = root / name
        if file.is_file():
            return read(file, environment=environment)
    return discover(root)


def read(file: Path, *, environment: Mapping[str, str] = os.environ) -> Project:
    """Reads a `skaffold.yaml`, which may hold several configurations."""
    documents = list(yamltree.load(file))
    if not documents:
        raise BuildError("the file is empty", file=str(file))
    root = file.parent
    artifacts: list[Artifact] = []
    manifests: list[Path] = []
    kustomizations: list[Path] = []
    for document in documents:
        fields = document.mapping(_TOP)
        major = _check_version(document, fields)
        artifacts += _artifacts(fields.get("build"), root, environment)
        patterns, directories = _applied(fields, major)
        manifests += [path for pattern in patterns for path in _matching(root, pattern)]
        kustomizations += [_existing_directory(root, directory) for directory in directories]
    unique = tuple(dict.fromkeys(manifests))
    return Project(root, file.name, tuple(artifacts), unique, tuple(dict.fromkeys(kustomizations)))


def discover(root: Path) -> Project:
    """The project of a directory without `skaffold.yaml`.

    An image of the manifests is built from the Dockerfile whose directory bears its name; a single image that is left
    over belongs to the Dockerfile at the top. Images that no Dockerfile answers for come from elsewhere.
    """
    directory = next((root / name for name in MANIFEST_DIRECTORIES if (root / name).is_dir()), None)
    if directory is None:
        hint = "Write a skaffold.yaml, or put the manifests into k8s/."
        raise BuildError(f"no skaffold.yaml and no k8s/ directory in {root}", hint=hint)
    kustomized = any((directory / name).is_file() for name in ("kustomization.yaml", "kustomization.yml"))
    manifests = tuple(sorted(_yaml_files(directory)))
    artifacts = tuple(_conventional_artifacts(root, manifest_images(manifests)))
    if kustomized:
        return Project(root, f"{directory.name}/", artifacts, (), (directory,))
    if not manifests:
        raise BuildError(f"no manifests in {directory}", hint="Manifests are files that end in .yaml or .yml.")
    return Project(root, f"{directory.name}/", artifacts, manifests)


def manifest_images(manifests: Iterable[Path]) -> list[str]:
    """Every image that containers in the manifests name, in order, each once."""
    found = (image for file in manifests for document in yamltree.load(file) for image in _images(document))
    return list(dict.fromkeys(found))


def tags(artifact: Artifact, images: Iterable[str]) -> list[str]:
    """The names an artifact is built under: as the manifests call it, with their tags; else its own name."""
    wanted = references.parse(artifact.image)
    if wanted.tag:
        return [artifact.image]
    found: list[str] = []
    for image in images:
        try:
            reference = references.parse(image)
        except references.InvalidReference:
            continue  # the API server's validation names it better, when the manifest is applied
        if reference.name == wanted.name and not reference.digest:
            found.append(image)
    return list(dict.fromkeys(found)) or [artifact.image]


def _check_version(document: Tree, fields: dict[str, Tree]) -> int:
    version = fields.get("apiVersion")
    match = _API_VERSION.fullmatch(version.scalar()) if version else None
    if match is None:
        given = f'unknown apiVersion "{version.scalar()}"' if version else "apiVersion is missing"
        raise (version or document).refuse(
            given, "podling reads skaffold/v2 to skaffold/v4, such as skaffold/v4beta11."
        )
    kind = fields.get("kind")
    if kind is not None and kind.scalar() != "Config":
        raise kind.refuse(f'unknown kind "{kind.scalar()}"', "The kind of a skaffold.yaml is Config.")
    return int(match[1])


def _artifacts(build: Tree | None, root: Path, environment: Mapping[str, str]) -> Iterator[Artifact]:
    if build is None:
        return
    listed = build.mapping(_BUILD).get("artifacts")
    for entry in listed.sequence() if listed else ():
        yield _artifact(entry, root, environment)


def _artifact(entry: Tree, root: Path, environment: Mapping[str, str]) -> Artifact:
    fields = entry.mapping(_ARTIFACT)
    for builder in _OTHER_BUILDERS:
        if builder in fields:
            hint = "podling builds Dockerfiles: use `docker:` for this artifact."
            raise fields[builder].refuse(f"artifact builder {builder} is not supported", hint)
    image = fields.get("image")
    if image is None:
        raise entry.refuse(f"{entry.path}.image is required")
    try:
        references.parse(image.scalar())
    except references.InvalidReference as error:
        raise image.refuse(f'couldn\'t parse image name "{image.scalar()}": {error}') from error
    context = root / (fields["context"].scalar() if "context" in fields else ".")
    if not context.is_dir():
        raise fields.get("context", entry).refuse(f"build context {context} is not a directory")
    docker = fields["docker"].mapping(_DOCKER) if "docker" in fields else {}
    arguments = docker["buildArgs"].mapping() if "buildArgs" in docker else {}
    return Artifact(
        image.scalar(),
        context,
        context / (docker["dockerfile"].scalar() if "dockerfile" in docker else "Dockerfile"),
        {name: _templated(value, environment) for name, value in arguments.items()},
        target=docker["target"].scalar() if "target" in docker else "",
        no_cache="noCache" in docker and docker["noCache"].scalar().lower() == "true",
    )


_TEMPLATE = re.compile(r"\{\{\s*\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def _templated(value: Tree, environment: Mapping[str, str]) -> str:
    """Skaffold's `{{.NAME}}` in build arguments: an environment variable, empty if not set."""
    text = _TEMPLATE.sub(lambda match: environment.get(match[1], ""), value.scalar())
    if "{{" in text:
        raise value.refuse(f"template {value.scalar()} is not supported", "Only {{.NAME}} of the environment is known.")
    return text


def _applied(fields: dict[str, Tree], major: int) -> tuple[list[str], list[str]]:
    """The globs of plain manifests and the kustomization directories of one configuration."""
    manifests = fields["manifests"].mapping(_MANIFESTS) if "manifests" in fields else {}
    deploy = fields["deploy"].mapping(_DEPLOY) if "deploy" in fields else {}
    _refuse_undeployable(manifests, deploy)
    kubectl = deploy["kubectl"].mapping() if "kubectl" in deploy else {}
    patterns = _texts(manifests.get("rawYaml")) + _texts(kubectl.get("manifests"))
    directories = _kustomize_paths(manifests.get("kustomize")) + _kustomize_paths(deploy.get("kustomize"))
    if not patterns and not directories and (major >= 3 or "kubectl" in deploy or not deploy):
        patterns = [_DEFAULT_MANIFESTS]
    return patterns, directories


def _refuse_undeployable(manifests: dict[str, Tree], deploy: dict[str, Tree]) -> None:
    for name in _NOT_DEPLOYABLE:
        place = manifests.get(name) or deploy.get(name)
        if place is not None:
            hint = "podling applies manifests.rawYaml, manifests.kustomize and deploy.kubectl.manifests."
            raise place.refuse(f"{place.path} is not supported", hint)


def _kustomize_paths(tree: Tree | None) -> list[str]:
    if tree is None:
        return []
    return _texts(tree.mapping().get("paths")) or ["."]


def _texts(tree: Tree | None) -> list[str]:
    return [item.scalar() for item in tree.sequence()] if tree else []


def _matching(root: Path, pattern: str) -> list[Path]:
    if "://" in pattern:
        raise BuildError(
            f"manifest {pattern}: only files of the project are read", hint="Download it into the project."
        )
    if Path(pattern).is_absolute():
        found = [Path(pattern)]
    else:
        found = sorted(path for path in root.glob(pattern) if path.is_file())
    if not any(path.is_file() for path in found) and pattern != _DEFAULT_MANIFESTS:
        raise BuildError(f"no manifest matches {pattern}", hint=f"Looked in {root}.")
    return found


def _existing_directory(root: Path, directory: str) -> Path:
    path = root / directory
    if not path.is_dir():
        raise BuildError(f"kustomize path {directory} is not a directory", hint=f"Looked in {root}.")
    return path


def _yaml_files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.suffix in (".yaml", ".yml") and path.is_file())


def _conventional_artifacts(root: Path, images: list[str]) -> Iterator[Artifact]:
    dockerfiles = {path.parent: path for path in sorted(_dockerfiles(root, _SEARCH_DEPTH))}
    left = [image for image in images if _may_be_ours(image)]
    for directory, dockerfile in dockerfiles.items():
        own = [image for image in left if directory != root and _short_name(image) == directory.name]
        left = [image for image in left if image not in own]
        if own:
            yield Artifact(_untagged(own[0]), directory, dockerfile, {})
    top = dockerfiles.get(root)
    names = list(dict.fromkeys(_untagged(image) for image in left if _could_be_top(image, root)))
    if top is not None and len(names) > 1:
        hint = "Write a skaffold.yaml that says which image is built from it."
        raise BuildError(f"Dockerfile could be for any of: {', '.join(names)}", file=str(top), hint=hint)
    if top is not None and names:
        yield Artifact(names[0], root, top, {})


def _could_be_top(image: str, root: Path) -> bool:
    """The project's own name, wherever it is pushed to; else a plain name that is nobody else's."""
    reference = references.parse(image)
    name = _short_name(image)
    return name == root.resolve().name or (reference.domain == references.DEFAULT_DOMAIN and name not in WELL_KNOWN)


WELL_KNOWN = frozenset(
    (
        *("alpine", "busybox", "caddy", "debian", "elasticsearch", "golang", "grafana", "haproxy", "httpd", "influxdb"),
        *("mariadb", "memcached", "mongo", "mysql", "nats", "nginx", "node", "node-exporter", "postgres", "prometheus"),
        *("python", "rabbitmq", "redis", "registry", "ruby", "traefik", "ubuntu", "valkey", "vault"),
    )
)
"""Names on Docker Hub that nobody means as their own application."""


def _may_be_ours(image: str) -> bool:
    try:
        references.parse(image)
    except references.InvalidReference:
        return False
    return "@" not in image


def _short_name(image: str) -> str:
    return references.parse(image).path.rpartition("/")[2]


def _untagged(image: str) -> str:
    reference = references.parse(image)
    return references.Reference(reference.domain, reference.path).familiar


def _dockerfiles(directory: Path, depth: int) -> Iterator[Path]:
    file = directory / "Dockerfile"
    if file.is_file():
        yield file
    if depth == 0:
        return
    for child in sorted(directory.iterdir()):
        if child.is_dir() and not child.name.startswith(".") and child.name not in _SKIPPED_DIRECTORIES:
            yield from _dockerfiles(child, depth - 1)


def _images(tree: Tree) -> Iterator[str]:
    """Images below `containers`, `initContainers` and `ephemeralContainers`, wherever a pod template hides."""
    for name, value in (tree.fields or {}).items():
        if name.lower().endswith("containers") and value.items is not None:
            for container in value.items:
                image = (container.fields or {}).get("image")
                if image is not None and image.text:
                    yield image.text
        yield from _images(value)
    for item in tree.items or ():
        yield from _images(item)
