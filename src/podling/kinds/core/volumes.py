"""Validation of volumes: the sources that a pod's volumes and PersistentVolumes may name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, required
from podling.kinds.core import containers, requirements
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_MODE: Final = "must be a number between 0 and 0777 (octal), both inclusive"
_HOST_PATH_TYPES: Final = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_MIN_TOKEN_SECONDS: Final = 10 * 60
_MAX_TOKEN_SECONDS: Final = 1 << 32


def _mode(source: Object, path: str, key: str = "defaultMode") -> list[FieldError]:
    mode = source.get(key)
    return [] if mode is None or 0 <= mode <= 0o777 else [invalid_value(f"{path}.{key}", mode, _MODE)]


def local_path(value: str, path: str) -> list[FieldError]:
    """A path below the volume that cannot leave it."""
    errors = containers.relative_path(value, path)
    if value.startswith("..") and ".." not in value.split("/"):
        errors.append(invalid_value(path, value, "must not start with '..'"))
    return errors


def _items(items: Sequence[Object] | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, item in each(path, items):
        if not item.get("key"):
            errors.append(required(f"{at}.key"))
        if not item.get("path"):
            errors.append(required(f"{at}.path"))
        else:
            errors += local_path(item["path"], f"{at}.path")
        errors += _mode(item, at, "mode")
    return errors


def _secret(source: Object, path: str) -> list[FieldError]:
    errors = [] if source.get("secretName") else [required(f"{path}.secretName")]
    return errors + _mode(source, path) + _items(source.get("items"), f"{path}.items")


def _config_map(source: Object, path: str) -> list[FieldError]:
    errors = [] if source.get("name") else [required(f"{path}.name")]
    return errors + _mode(source, path) + _items(source.get("items"), f"{path}.items")


def _empty_dir(source: Object, path: str) -> list[FieldError]:
    limit = source.get("sizeLimit")
    if limit is not None and requirements.nanos(limit) < 0:
        return [forbidden_field(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def host_path(source: Object, path: str) -> list[FieldError]:
    value = text(source, "path")
    errors = containers.no_backsteps(value, f"{path}.path") if value else [required(f"{path}.path")]
    return errors + fields.one_of(f"{path}.type", text(source, "type"), _HOST_PATH_TYPES)


def _claim(source: Object, path: str) -> list[FieldError]:
    return [] if source.get("claimName") else [required(f"{path}.claimName")]


def nfs(source: Object, path: str) -> list[FieldError]:
    errors = [required(f"{path}.{key}") for key in ("server", "path") if not source.get(key)]
    if source.get("path") and not source["path"].startswith("/"):
        errors.append(invalid_value(f"{path}.path", source["path"], "must be an absolute path"))
    return errors


def _csi(source: Object, path: str) -> list[FieldError]:
    errors = csi_driver(text(source, "driver"), f"{path}.driver")
    secret: Object | None = source.get("nodePublishSecretRef")
    if secret is not None and not secret.get("name"):
        errors.append(required(f"{path}.nodePublishSecretRef.name"))
    return errors


def csi_driver(name: str, path: str) -> list[FieldError]:
    if not name:
        return [required(path)]
    errors = (
        [FieldError("FieldValueTooLong", path, "Too long: may not be more than 63 bytes")] if len(name) > 63 else []
    )
    return errors + fields.says(path, name, names.dns1123_subdomain(name.lower()))


def _image(source: Object, path: str) -> list[FieldError]:
    if not source.get("reference"):
        return [required(f"{path}.reference")]
    return fields.one_of_required(f"{path}.pullPolicy", text(source, "pullPolicy"), ("Always", "IfNotPresent", "Never"))


def _ephemeral(source: Object, path: str) -> list[FieldError]:
    template: Object | None = source.get("volumeClaimTemplate")
    if template is None:
        return [required(f"{path}.volumeClaimTemplate")]
    at = f"{path}.volumeClaimTemplate"
    meta = part(template, "metadata")
    errors = fields.annotation_map(f"{at}.metadata.annotations", meta.get("annotations"))
    errors += fields.labels(f"{at}.metadata.labels", meta.get("labels"))
    return errors + claim_spec(part(template, "spec"), f"{at}.spec")


# What a file shows of its pod


def _downward(source: Object, path: str) -> list[FieldError]:
    errors = _mode(source, path)
    for _, item in each(path, source.get("items")):
        errors += _downward_file(item, path)
    return errors


def _downward_file(item: Object, path: str) -> list[FieldError]:
    """Problems are reported at the volume's path: Kubernetes leaves the item's index out."""
    errors: list[FieldError] = []
    value = text(item, "path")
    errors += local_path(value, f"{path}.path") if value else [required(f"{path}.path")]
    field_ref, resource_ref = item.get("fieldRef"), item.get("resourceFieldRef")
    if field_ref is not None:
        errors += containers.field_ref(field_ref, f"{path}.fieldRef", containers.VOLUME_FIELDS)
        if resource_ref is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid_value(path, "resource", detail))
    elif resource_ref is not None:
        errors += containers.resource_ref(resource_ref, f"{path}.resourceFieldRef", in_volume=True)
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return errors + _mode(item, path, "mode")


def _projected(source: Object, path: str) -> list[FieldError]:
    errors = _mode(source, path)
    seen: set[str] = set()
    for at, projection in each(f"{path}.sources", source.get("sources")):
        given = [kind for kind in _PROJECTIONS if projection.get(kind) is not None]
        for kind in given[1:]:
            errors.append(forbidden_field(f"{path}.{kind}", "may not specify more than 1 volume type"))
        for kind in given[:1]:
            errors += _PROJECTIONS[kind](projection[kind], f"{at}.{kind}")
            errors += _same_paths(kind, projection[kind], f"{at}.{kind}", seen)
        if not given:
            errors.append(required(at, "must specify a projection type"))
    return errors


def _same_paths(kind: str, source: Object, path: str, seen: set[str]) -> list[FieldError]:
    files = [source] if kind in ("serviceAccountToken", "clusterTrustBundle") else entries(source, "items")
    errors: list[FieldError] = []
    for file in files:
        target = text(file, "path")
        if target and target in seen:
            errors.append(invalid_value(f"{path}.path", target, "conflicting duplicate paths"))
        seen.add(target)
    return errors


def _projected_named(source: Object, path: str) -> list[FieldError]:
    errors = [] if source.get("name") else [required(f"{path}.name")]
    return errors + _items(source.get("items"), f"{path}.items")


def _projected_downward(source: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for _, item in each(path, source.get("items")):
        errors += _downward_file(item, path)
    return errors


def _token(source: Object, path: str) -> list[FieldError]:
    seconds = source.get("expirationSeconds") or 0
    errors: list[FieldError] = []
    if seconds < _MIN_TOKEN_SECONDS:
        errors.append(
            invalid_value(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        )
    if seconds > _MAX_TOKEN_SECONDS:
        detail = "may not specify a duration larger than 2^32 seconds"
        errors.append(invalid_value(f"{path}.expirationSeconds", seconds, detail))
    value = text(source, "path")
    return errors + (local_path(value, f"{path}.path") if value else [required(f"{path}.path")])


def _trust_bundle(source: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    name, signer = source.get("name"), source.get("signerName")
    if name is not None and signer is not None:
        errors.append(invalid_value(path, source, "only one of name and signerName may be used"))
    elif name is None and signer is None:
        errors.append(required(path, "either name or signerName must be specified"))
    value = text(source, "path")
    return errors + (local_path(value, f"{path}.path") if value else [required(f"{path}.path")])


Check = Callable[[Object, str], list[FieldError]]

_PROJECTIONS: Final[Mapping[str, Check]] = {
    "secret": _projected_named,
    "configMap": _projected_named,
    "downwardAPI": _projected_downward,
    "serviceAccountToken": _token,
    "clusterTrustBundle": _trust_bundle,
    "podCertificate": lambda _source, _path: [],
}


# Sources of other people's storage: what is required of them


def _requires(*keys: str) -> Check:
    def check(source: Object, path: str) -> list[FieldError]:
        return [required(f"{path}.{key}") for key in keys if not source.get(key)]

    return check


def iscsi(source: Object, path: str) -> list[FieldError]:
    errors = [required(f"{path}.{key}") for key in ("targetPortal", "iqn") if not source.get(key)]
    iqn = text(source, "iqn")
    if iqn and not iqn.startswith(("iqn", "eui", "naa")):
        errors.append(invalid_value(f"{path}.iqn", iqn, "must be valid format starting with iqn, eui, or naa"))
    lun = source.get("lun") or 0
    if not 0 <= lun <= 255:
        errors.append(invalid_value(f"{path}.lun", lun, "must be between 0 and 255, inclusive"))
    return errors


def _git_repo(source: Object, path: str) -> list[FieldError]:
    errors = [] if source.get("repository") else [required(f"{path}.repository")]
    return errors + local_path(text(source, "directory"), f"{path}.directory")


def rbd(source: Object, path: str) -> list[FieldError]:
    return [required(f"{path}.{key}") for key in ("monitors", "image") if not source.get(key)]


def _glusterfs(source: Object, path: str) -> list[FieldError]:
    return [required(f"{path}.{key}") for key in ("endpoints", "path") if not source.get(key)]


POD_SOURCES: Final[Mapping[str, Check]] = {
    "emptyDir": _empty_dir,
    "hostPath": host_path,
    "gitRepo": _git_repo,
    "gcePersistentDisk": _requires("pdName"),
    "awsElasticBlockStore": _requires("volumeID"),
    "secret": _secret,
    "nfs": nfs,
    "iscsi": iscsi,
    "glusterfs": _glusterfs,
    "flocker": lambda _source, _path: [],
    "persistentVolumeClaim": _claim,
    "rbd": rbd,
    "cinder": _requires("volumeID"),
    "cephfs": _requires("monitors"),
    "quobyte": _requires("registry", "volume"),
    "downwardAPI": _downward,
    "fc": lambda _source, _path: [],
    "configMap": _config_map,
    "azureFile": _requires("secretName", "shareName"),
    "vsphereVolume": _requires("volumePath"),
    "photonPersistentDisk": _requires("pdID"),
    "portworxVolume": _requires("volumeID"),
    "azureDisk": _requires("diskName", "diskURI"),
    "storageos": lambda _source, _path: [],
    "scaleIO": _requires("gateway", "system", "volumeName"),
    "projected": _projected,
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
}
"""The checks of each source, in the order in which Kubernetes tries them: the first is checked, others are refused."""


def volumes(items: Sequence[Object] | None, path: str) -> tuple[dict[str, Object], list[FieldError]]:
    """The volumes by name, and what is wrong with them."""
    errors: list[FieldError] = []
    found: dict[str, Object] = {}
    for at, volume in each(path, items):
        wrong = _source(volume, at)
        name = text(volume, "name")
        wrong += fields.check_required(f"{at}.name", name, names.dns1123_label)
        if name and name in found:
            wrong.append(duplicate(f"{at}.name", name))
        if not wrong:
            found[name] = volume
        errors += wrong
    return found, errors


def _source(volume: Object, path: str) -> list[FieldError]:
    given = [kind for kind in POD_SOURCES if volume.get(kind) is not None]
    if not given:
        return [required(path, "must specify a volume type")]
    errors = POD_SOURCES[given[0]](volume[given[0]], f"{path}.{given[0]}")
    return errors + [forbidden_field(f"{path}.{k}", "may not specify more than 1 volume type") for k in given[1:]]


# PersistentVolumeClaims

ACCESS_MODES: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES: Final = ("Block", "Filesystem")
_CLAIM_KINDS: Final = ("PersistentVolumeClaim", "VolumeSnapshot")


def access_modes(modes: Sequence[str] | None, path: str, missing: str) -> list[FieldError]:
    if not modes:
        return [required(path, missing)]
    errors: list[FieldError] = []
    for mode in modes:
        errors += fields.one_of(path, mode, ACCESS_MODES)
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        errors.append(forbidden_field(path, "may not use ReadWriteOncePod with other access modes"))
    return errors


def claim_spec(spec: Object, path: str) -> list[FieldError]:
    """A `PersistentVolumeClaimSpec`."""
    errors = access_modes(spec.get("accessModes"), f"{path}.accessModes", "at least 1 access mode is required")
    errors += fields.label_selector(f"{path}.selector", spec.get("selector"))
    storage = part(spec, "resources", "requests").get("storage")
    if storage is None:
        errors.append(required(f"{path}.resources[storage]"))
    else:
        errors += positive_storage(storage, f"{path}.resources[storage]")
    name = spec.get("storageClassName")
    if name:
        errors += fields.check(f"{path}.storageClassName", name, names.dns1123_subdomain)
    if (mode := spec.get("volumeMode")) is not None:
        errors += fields.one_of(f"{path}.volumeMode", mode, VOLUME_MODES)
    errors += _data_source(spec, path)
    if name := spec.get("volumeAttributesClassName"):
        errors += fields.check(f"{path}.volumeAttributesClassName", name, names.dns1123_subdomain)
    return errors


def positive_storage(amount: Any, path: str) -> list[FieldError]:
    if requirements.nanos(amount) > 0:
        return []
    return [invalid_value(path, requirements.canonical(amount), "must be greater than zero")]


def _data_source(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("dataSource", "dataSourceRef"):
        source: Object | None = spec.get(key)
        if source is None:
            continue
        at = f"{path}.{key}"
        for name in ("name", "kind"):
            if not source.get(name):
                errors.append(required(f"{at}.{name}"))
        group = text(source, "apiGroup")
        if not group and source.get("kind") != "PersistentVolumeClaim":
            detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
            errors.append(invalid_value(f"{at}.kind", text(source, "kind"), detail))
        if group:
            errors += fields.check(f"{at}.apiGroup", group, names.dns1123_subdomain)
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source and reference and not reference.get("namespace") and not _same_reference(source, reference):
        errors.append(invalid_value(path, f"{path}.dataSource", "must match dataSourceRef"))
    return errors


def _same_reference(one: Object, other: Object) -> bool:
    return all(text(one, key) == text(other, key) for key in ("apiGroup", "kind", "name"))
