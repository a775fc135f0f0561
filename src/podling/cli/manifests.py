"""Manifests on their way to the cluster: read, checked against what it serves, applied in an order that works.

Everything is read, resolved and tried (`dryRun=All`) before the first object is written, so that bad input leaves the
running cluster as it is. Objects are applied server-side, as `kubectl apply --server-side` does.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
import yaml

from podling.api.meta import items, part
from podling.cli.api import Api, RequestFailed
from podling.store.types import Object

MANAGER = "podling"
USE_PATIENCE = 5.0
"""Seconds for a namespace or definition to become usable; it takes milliseconds."""
DEFAULT_NAMESPACE = "default"
BUILT = "podling.dev/built-images"
"""On pod templates: the images that podling built, by id, so that a new build of the same tag is rolled out."""
FIRST_KINDS = (
    *("Namespace", "CustomResourceDefinition", "PriorityClass", "StorageClass", "ServiceAccount"),
    *("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ConfigMap", "Secret"),
    *("PersistentVolume", "PersistentVolumeClaim", "Service"),
)
"""What others need at their start; everything else follows in the files' order."""
TEMPLATES = {
    "Pod": (),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"), ("spec", "template")),
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object and where it was read."""

    object: Object
    source: str

    @property
    def kind(self) -> str:
        return str(self.object["kind"])

    @property
    def api_version(self) -> str:
        return str(self.object["apiVersion"])

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Of objects that have one."""
        return str(self.object["metadata"].get("namespace") or DEFAULT_NAMESPACE)

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


def read(files: Iterable[Path], kustomizations: Iterable[Path] = ()) -> list[Manifest]:
    """All objects of the files, and of the kustomizations as `kubectl kustomize` builds them."""
    found = [m for file in files for m in parse(_text(file), str(file))]
    for directory in kustomizations:
        found += parse(_kustomized(directory), str(directory))
    return sorted(found, key=_rank)


def parse(text: str, source: str) -> list[Manifest]:
    """All objects of a YAML text, each with the line on which its document begins."""
    found: list[Manifest] = []
    try:
        for line, document in _documents(text):
            if document is not None:
                found += _objects(document, f"{source}:{line}")
    except yaml.YAMLError as error:
        raise click.ClickException(f"{source}{_yaml_words(error)}") from error
    return found


def _documents(text: str) -> Iterator[tuple[int, object]]:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            yield node.start_mark.line + 1, loader.construct_document(node)
    finally:
        loader.dispose()


def _rank(manifest: Manifest) -> int:
    return FIRST_KINDS.index(manifest.kind) if manifest.kind in FIRST_KINDS else len(FIRST_KINDS)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file} is no text file: {error}") from error
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}") from error


def _yaml_words(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        context = f" ({error.context})" if error.context else ""
        return f":{error.problem_mark.line + 1}: not valid YAML: {error.problem}{context}"
    return f": not valid YAML: {error}"


def _objects(document: object, where: str) -> list[Manifest]:
    if not isinstance(document, dict):
        raise click.ClickException(f"{where}: an object is expected here, not {type(document).__name__}")
    obj = cast(Object, document)
    for field in ("apiVersion", "kind"):
        if not isinstance(obj.get(field), str) or not obj[field]:
            raise click.ClickException(f"{where}: {field} is not set")
    if obj["kind"].endswith("List") and isinstance(obj.get("items"), list):
        return [m for item in cast(list[object], obj["items"]) for m in _objects(item, where)]
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not cast(Object, metadata).get("name"):
        raise click.ClickException(f"{where}: metadata.name is not set on this {obj['kind']}")
    return [Manifest(obj, where)]


def _kustomized(directory: Path) -> str:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise click.ClickException(f"{directory} is a kustomization: building it needs kubectl on your PATH")
    built = subprocess.run([kubectl, "kustomize", directory], capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise click.ClickException(f"{directory}: {built.stderr.strip()}")
    return built.stdout


def images(manifests: Iterable[Manifest]) -> list[str]:
    """The images that the manifests' pods run, each once."""
    return list(dict.fromkeys(c["image"] for m in manifests for c in _containers(m)))


def _template(manifest: Manifest) -> Object | None:
    path = TEMPLATES.get(manifest.kind)
    if path is None:
        return None
    try:
        return part(manifest.object, *path) or None
    except (AttributeError, TypeError):  # a malformed one is for the API to refuse
        return None


def _containers(manifest: Manifest) -> list[Object]:
    """Those of the pods that name an image; what is malformed is left for the API to refuse."""
    try:
        spec = part(_template(manifest), "spec")
        listed = [*cast(list[object], items(spec, "initContainers")), *cast(list[object], items(spec, "containers"))]
    except (AttributeError, TypeError):
        return []
    containers = [cast(Object, c) for c in listed if isinstance(c, dict)]
    return [c for c in containers if isinstance(c.get("image"), str) and c["image"]]


def mark_built(manifests: Iterable[Manifest], built: Mapping[str, str]) -> None:
    """Writes the ids of built images (`{reference: id}`) on the pod templates that use them."""
    for manifest in manifests:
        used = {c["image"]: built[c["image"]] for c in _containers(manifest) if c["image"] in built}
        template = _template(manifest)
        if used and template is not None and manifest.kind != "Pod":
            with contextlib.suppress(AttributeError, TypeError):  # a malformed one is for the API to refuse
                written = {**part(template, "metadata", "annotations"), BUILT: json.dumps(used, sort_keys=True)}
                template["metadata"] = {**part(template, "metadata"), "annotations": written}


class Target:
    """Applies manifests to one cluster."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Applies all or, if the API refuses any of them beforehand, none."""
        own = {(m.api_version, m.kind): _served_by(m) for crd in manifests for m in _defined(crd)}
        self._check_kinds(manifests, own)
        namespaces = {m.name for m in manifests if m.kind == "Namespace"}
        for manifest in manifests:
            if (manifest.api_version, manifest.kind) not in own and manifest.namespace not in namespaces:
                self._send(manifest, dry_run=True)
        for manifest in manifests:
            self._send(manifest, dry_run=False)
            self._await_use(manifest)

    def _await_use(self, manifest: Manifest) -> None:
        """What others of the same files build on takes a moment: a namespace's account, a definition's endpoint."""
        if manifest.kind == "Namespace":
            accounts = f"/api/v1/namespaces/{manifest.name}/serviceaccounts"
            self._await(accounts, "default", lambda _account: True)
        elif manifest.kind == "CustomResourceDefinition":
            definitions, _, name = self.path(manifest).rpartition("/")
            self._await(definitions, name, _is_established)

    def _await(self, collection: str, name: str, usable: Callable[[Object], bool]) -> None:
        """Returns when the object is there and usable, or when waiting longer would not help."""
        for event in self._api.watch(collection, timeout=USE_PATIENCE, fieldSelector=f"metadata.name={name}"):
            if event["type"] in ("ADDED", "MODIFIED") and usable(event["object"]):
                return

    def _check_kinds(self, manifests: Sequence[Manifest], own: Mapping[tuple[str, str], tuple[str, bool]]) -> None:
        for manifest in manifests:
            key = (manifest.api_version, manifest.kind)
            if key not in self._kinds:
                self._discover(manifest.api_version)
            if key not in self._kinds and key in own:
                self._kinds[key] = own[key]
            if key not in self._kinds:
                raise click.ClickException(
                    f'{manifest.source}: no matches for kind "{manifest.kind}" in version "{manifest.api_version}"'
                )

    def _discover(self, api_version: str) -> None:
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            served = self._api.get(root)
        except RequestFailed as error:
            if error.code != 404:
                raise
            return
        for resource in served["resources"]:
            if "/" not in resource["name"]:
                self._kinds[api_version, resource["kind"]] = (resource["name"], resource["namespaced"])

    def path(self, manifest: Manifest) -> str:
        """Where the object is served."""
        plural, namespaced = self._kinds[manifest.api_version, manifest.kind]
        root = f"/apis/{manifest.api_version}" if "/" in manifest.api_version else f"/api/{manifest.api_version}"
        place = f"/namespaces/{manifest.namespace}" if namespaced else ""
        return f"{root}{place}/{plural}/{manifest.name}"

    def _placed(self, manifest: Manifest) -> Object:
        """The object with its namespace, by which the API calls it where it refuses it."""
        _, namespaced = self._kinds[manifest.api_version, manifest.kind]
        if not namespaced:
            return manifest.object
        return {**manifest.object, "metadata": {**manifest.object["metadata"], "namespace": manifest.namespace}}

    def _send(self, manifest: Manifest, *, dry_run: bool) -> None:
        query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        body = json.dumps(self._placed(manifest), default=str).encode()
        try:
            self._api.request("PATCH", self.path(manifest), body, query=query, content="application/apply-patch+yaml")
        except RequestFailed as error:
            raise click.ClickException(f"{manifest.source}: {manifest}: {error}") from error


def _is_established(definition: Object) -> bool:
    conditions = items(definition, "status", "conditions")
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _defined(manifest: Manifest) -> list[Manifest]:
    """Stand-ins for the kinds that a CustomResourceDefinition among the manifests brings."""
    if manifest.kind != "CustomResourceDefinition":
        return []
    try:
        spec = part(manifest.object, "spec")
        kind = part(spec, "names").get("kind", "")
        versions = [f"{spec.get('group')}/{v.get('name')}" for v in items(spec, "versions")]
    except (AttributeError, TypeError):  # a malformed one is for the API to refuse
        return []
    return [Manifest({**manifest.object, "apiVersion": v, "kind": kind}, manifest.source) for v in versions]


def _served_by(manifest: Manifest) -> tuple[str, bool]:
    spec = part(manifest.object, "spec")
    return part(spec, "names").get("plural", ""), spec.get("scope") == "Namespaced"
