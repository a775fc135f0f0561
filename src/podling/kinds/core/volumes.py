"""Validation of volumes: the sources that a pod's volumes and PersistentVolumes may name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required, too_long
from podling.kinds.core import downward, requirements
from podling.kinds.core.paths import backsteps, local_path, relative_path
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_MODE: Final = "must be a number between 0 and 0777 (octal), both inclusive"
_ONE_TYPE: Final = "may not specify more than 1 volume type"
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
PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_MIN_TOKEN_SECONDS: Final = 10 * 60
_MAX_TOKEN_SECONDS: Final = 1 << 32
_LONGEST_ISCSI_NAME: Final = 64


def _mode(source: Object, path: str, key: str = "defaultMode") -> list[FieldError]:
    mode = source.get(key)
    return [] if mode is None or 0 <= mode <= 0o777 else [invalid_value(f"{path}.{key}", mode, _MODE)]


def _missing(source: Object, path: str, *keys: str) -> list[FieldError]:
    return [required(f"{path}.{key}") for key in keys if not source.get(key)]


def _item(item: Object, path: str) -> list[FieldError]:
    errors = _missing(item, path, "key", "path")
    return errors + local_path(text(item, "path"), f"{path}.path") + _mode(item, path, "mode")


def _items(source: Object, path: str) -> list[FieldError]:
    return [e for at, item in each(f"{path}.items", source.get("items")) for e in _item(item, at)]


def _secret(source: Object, path: str) -> list[FieldError]:
    return _missing(source, path, "secretName") + _mode(source, path) + _items(source, path)


def _config_map(source: Object, path: str) -> list[FieldError]:
    return _missing(source, path, "name") + _mode(source, path) + _items(source, path)


def _empty_dir(source: Object, path: str) -> list[FieldError]:
    limit = source.get("sizeLimit")
    if limit is not None and requirements.nanos(limit) < 0:
        return [forbidden_field(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def host_path(source: Object, path: str) -> list[FieldError]:
    errors = _missing(source, path, "path") + backsteps(text(source, "path"), f"{path}.path")
    return errors + fields.one_of(f"{path}.type", text(source, "type"), _HOST_PATH_TYPES)


def nfs(source: Object, path: str) -> list[FieldError]:
    errors = _missing(source, path, "server", "path")
    target = text(source, "path")
    if not target.startswith("/"):
        errors.append(invalid_value(f"{path}.path", target, "must be an absolute path"))
    return errors


def _csi(source: Object, path: str) -> list[FieldError]:
    errors = csi_driver(text(source, "driver"), f"{path}.driver")
    secret: Object | None = source.get("nodePublishSecretRef")
    if secret is None:
        return errors
    if not secret.get("name"):
        return [*errors, required(f"{path}.nodePublishSecretRef.name")]
    # Kubernetes leaves the reference out of this path.
    return errors + fields.check(f"{path}.name", secret["name"], names.dns1123_subdomain)


def csi_driver(name: str, path: str) -> list[FieldError]:
    if not name:
        return [required(path)]
    errors = [too_long(path, names.LABEL_MAX)] if len(name) > names.LABEL_MAX else []
    return errors + fields.says(path, name, names.dns1123_subdomain(name.lower()))


def _image(source: Object, path: str) -> list[FieldError]:
    return fields.one_of_required(f"{path}.pullPolicy", text(source, "pullPolicy"), PULL_POLICIES)


_TEMPLATE_METADATA: Final = {
    "name": "name",
    "generateName": "generateName",
    "namespace": "namespace",
    "selfLink": "selfLink",
    "uid": "uID",
    "resourceVersion": "resourceVersion",
    "generation": "generation",
    "creationTimestamp": "creationTimestamp",
    "deletionTimestamp": "deletionTimestamp",
    "deletionGracePeriodSeconds": "deletionGracePeriodSeconds",
    "ownerReferences": "ownerReferences",
    "finalizers": "finalizers",
    "managedFields": "managedFields",
}
"""Fields of `metadata` in Go's order, and how an error calls them: after the field's name in Go."""


def _ephemeral(source: Object, path: str) -> list[FieldError]:
    template: Object | None = source.get("volumeClaimTemplate")
    if template is None:
        return [required(f"{path}.volumeClaimTemplate")]
    at = f"{path}.volumeClaimTemplate"
    meta = part(template, "metadata")
    errors = fields.annotation_map(f"{at}.metadata.annotations", meta.get("annotations"))
    errors += fields.labels(f"{at}.metadata.labels", meta.get("labels"))
    errors += [
        forbidden_field(f"{at}.metadata.{shown}", "cannot be set")
        for key, shown in _TEMPLATE_METADATA.items()
        if meta.get(key)
    ]
    return errors + claim_spec(part(template, "spec"), f"{at}.spec")


# What a file shows of its pod


def _downward(source: Object, path: str) -> list[FieldError]:
    """Problems are reported at the volume's path: Kubernetes leaves the item's index out."""
    return _mode(source, path) + [e for item in entries(source, "items") for e in _downward_file(item, path)]


def _downward_file(item: Object, path: str) -> list[FieldError]:
    errors = _missing(item, path, "path") + local_path(text(item, "path"), f"{path}.path")
    field_ref, resource_ref = item.get("fieldRef"), item.get("resourceFieldRef")
    if field_ref is not None:
        errors += downward.field_ref(field_ref, f"{path}.fieldRef", downward.VOLUME_FIELDS)
        if resource_ref is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid_value(path, "resource", detail))
    elif resource_ref is not None:
        errors += downward.resource_ref(resource_ref, f"{path}.resourceFieldRef", in_volume=True)
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return errors + _mode(item, path, "mode")


# Projected volumes


def _projected(source: Object, path: str) -> list[FieldError]:
    errors = _mode(source, path)
    seen: set[str] = set()
    for at, projection in each(f"{path}.sources", source.get("sources")):
        given = [kind for kind in _PROJECTIONS if projection.get(kind) is not None]
        for kind in given:
            errors += _PROJECTIONS[kind](projection[kind], f"{at}.{kind}", path, seen)
        if len(given) > 1:
            errors.append(forbidden_field(at, "may not specify more than 1 volume type per source"))
    return errors


def _taken(target: str, shown: str, volume: str, seen: set[str]) -> list[FieldError]:
    """No two files of a projected volume have one path."""
    if target and target in seen:
        return [invalid_value(volume, shown, "conflicting duplicate paths")]
    seen.add(target)
    return []


def _projected_named(source: Object, path: str, volume: str, seen: set[str]) -> list[FieldError]:
    errors = _missing(source, path, "name")
    for at, item in each(f"{path}.items", source.get("items")):
        errors += _item(item, at) + _taken(text(item, "path"), text(source, "name"), volume, seen)
    return errors


def _projected_downward(source: Object, path: str, volume: str, seen: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for item in entries(source, "items"):
        target = text(item, "path")
        errors += _downward_file(item, path) + _taken(target, target, volume, seen)
    return errors


def _token(source: Object, path: str, volume: str, _seen: set[str]) -> list[FieldError]:
    """Problems of the token's path are reported at the volume's, and it may be taken: Kubernetes does so."""
    seconds, at = source.get("expirationSeconds") or 0, f"{path}.expirationSeconds"
    errors: list[FieldError] = []
    if seconds < _MIN_TOKEN_SECONDS:
        errors.append(invalid_value(at, seconds, "may not specify a duration less than 10 minutes"))
    if seconds > _MAX_TOKEN_SECONDS:
        errors.append(invalid_value(at, seconds, "may not specify a duration larger than 2^32 seconds"))
    value = text(source, "path")
    return errors + (local_path(value, f"{volume}.path") if value else [required(f"{volume}.path")])


Check = Callable[[Object, str], list[FieldError]]

_PROJECTIONS: Final[Mapping[str, Callable[[Object, str, str, set[str]], list[FieldError]]]] = {
    "secret": _projected_named,
    "configMap": _projected_named,
    "downwardAPI": _projected_downward,
    "serviceAccountToken": _token,
}
"""Trust bundles and certificates are not here: their features are off, and they are dropped before."""


# Sources of other people's storage


def _requires(*keys: str) -> Check:
    return lambda source, path: _missing(source, path, *keys)


def _in_range(source: Object, path: str, key: str, least: int, most: int) -> list[FieldError]:
    value = source.get(key) or 0
    if least <= value <= most:
        return []
    return [invalid_value(f"{path}.{key}", value, f"must be between {least} and {most}, inclusive")]


def _disk(name: str) -> Check:
    return lambda source, path: _missing(source, path, name) + _in_range(source, path, "partition", 0, 255)


_ISCSI_NAMES: Final = {
    "iqn": r"iqn\.\d{4}-\d{2}\.([A-Za-z0-9-.]+)(:[^,;*&$|\s]+)$",
    "eui": r"^eui.[A-Za-z0-9]{16}$",
    "naa": r"^naa.[A-Za-z0-9]{32}$",
}


def _iscsi_name(name: str, path: str, unknown: str) -> list[FieldError]:
    kind = name[:3]
    if kind not in _ISCSI_NAMES:
        return [invalid_value(path, name, unknown)]
    if re.search(_ISCSI_NAMES[kind], name, re.ASCII) is None:
        return [invalid_value(path, name, "must be valid format")]
    return []


def iscsi(
    source: Object, path: str, unknown: str = "must be valid format starting with iqn, eui, or naa"
) -> list[FieldError]:
    """The rules of a pod's volume; for a PersistentVolume `unknown` (said of a name that is none) is shorter."""
    errors = _missing(source, path, "targetPortal")
    iqn = text(source, "iqn")
    errors += _iscsi_name(iqn, f"{path}.iqn", unknown) if iqn else [required(f"{path}.iqn")]
    errors += _in_range(source, path, "lun", 0, 255)
    secret = source.get("secretRef")
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and secret is None:
        errors.append(required(f"{path}.secretRef"))
    if (initiator := source.get("initiatorName")) is not None:
        errors += _iscsi_name(initiator, f"{path}.initiatorname", unknown)
    return errors


def iscsi_name_too_long(name: str, source: Object) -> bool:
    """With an initiator the names of volume and portal become one name, which is limited."""
    portal = text(source, "targetPortal")
    return source.get("initiatorName") is not None and len(f"{name}:{portal}") > _LONGEST_ISCSI_NAME


ISCSI_TOO_LONG: Final = (
    "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters "
    "if iscsi.initiatorName is specified."
)


def fibre_channel(source: Object, path: str) -> list[FieldError]:
    worldwide, ids = entries(source, "targetWWNs"), entries(source, "wwids")
    errors: list[FieldError] = []
    if not worldwide and not ids:
        errors.append(required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both"))
    if worldwide and ids:
        detail = "targetWWNs and wwids can not be specified simultaneously"
        errors.append(invalid_value(f"{path}.targetWWNs", worldwide, detail))
    if worldwide and source.get("lun") is None:
        errors.append(required(f"{path}.lun", "lun is required if targetWWNs is specified"))
    return errors + (_in_range(source, path, "lun", 0, 255) if worldwide else [])


def _git_repo(source: Object, path: str) -> list[FieldError]:
    return _missing(source, path, "repository") + relative_path(text(source, "directory"), f"{path}.directory")


def _flocker(source: Object, path: str) -> list[FieldError]:
    name, uid = text(source, "datasetName"), text(source, "datasetUUID")
    errors: list[FieldError] = []
    if not name and not uid:
        errors.append(required(path, "one of datasetName and datasetUUID is required"))
    if name and uid:
        detail = "datasetName and datasetUUID can not be specified simultaneously"
        errors.append(invalid_value(path, "resource", detail))
    if "/" in name:
        errors.append(invalid_value(f"{path}.datasetName", name, "must not contain '/'"))
    return errors


def _quobyte(source: Object, path: str) -> list[FieldError]:
    registry, detail = text(source, "registry"), "must be a host:port pair or multiple pairs separated by commas"
    errors: list[FieldError] = []
    if not registry:
        errors.append(required(f"{path}.registry", detail))
    elif len(text(source, "tenant")) > 64:
        errors.append(required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters"))
    else:
        wrong = [pair for pair in registry.split(",") if not re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*):[^:\[\]]*", pair)]
        errors += [invalid_value(f"{path}.registry", registry, detail) for _ in wrong]
    return errors + _missing(source, path, "volume")


def flex(source: Object, path: str) -> list[FieldError]:
    errors = _missing(source, path, "driver")
    for key in part(source, "options"):
        domain = "." + key.partition("/")[0].lower()
        if domain.endswith((".kubernetes.io", ".k8s.io")):
            detail = "kubernetes.io and k8s.io namespaces are reserved"
            errors.append(invalid_value(f"{path}.options[{key}]", key, detail))
    return errors


def _secret_name(source: Object, path: str) -> list[FieldError]:
    secret: Object | None = source.get("secretRef")
    return [] if secret is None else _missing(secret, f"{path}.secretRef", "name")


def secret_place(source: Object, path: str) -> list[FieldError]:
    """The secret of a PersistentVolume has a namespace."""
    secret: Object | None = source.get("secretRef")
    return [] if secret is None else _missing(secret, f"{path}.secretRef", "name", "namespace")


def storage_os(source: Object, path: str) -> list[FieldError]:
    errors = fields.check_required(f"{path}.volumeName", text(source, "volumeName"), names.dns1123_label)
    if namespace := text(source, "volumeNamespace"):
        errors += fields.check(f"{path}.volumeNamespace", namespace, names.dns1123_label)
    return errors


_CACHING_MODES: Final = ("None", "ReadOnly", "ReadWrite")
_DISK_KINDS: Final = ("Dedicated", "Managed", "Shared")
_MANAGED_DISK: Final = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB_DISK: Final = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"


def _azure_disk(source: Object, path: str) -> list[FieldError]:
    errors = _missing(source, path, "diskName", "diskURI")
    kind, uri = source.get("kind"), text(source, "diskURI")
    if (caching := source.get("cachingMode")) is not None:
        errors += fields.one_of(f"{path}.cachingMode", caching, _CACHING_MODES)
    if kind is None:
        return errors
    errors += fields.one_of(f"{path}.kind", kind, _DISK_KINDS)
    start, shown = ("/subscriptions/", _MANAGED_DISK) if kind == "Managed" else ("https://", _BLOB_DISK)
    return errors if uri.startswith(start) else [*errors, not_supported(f"{path}.diskURI", uri, [shown])]


POD_SOURCES: Final[Mapping[str, Check]] = {
    "emptyDir": _empty_dir,
    "hostPath": host_path,
    "gitRepo": _git_repo,
    "gcePersistentDisk": _disk("pdName"),
    "awsElasticBlockStore": _disk("volumeID"),
    "secret": _secret,
    "nfs": nfs,
    "iscsi": iscsi,
    "glusterfs": _requires("endpoints", "path"),
    "flocker": _flocker,
    "persistentVolumeClaim": _requires("claimName"),
    "rbd": _requires("monitors", "image"),
    "cinder": lambda source, path: _missing(source, path, "volumeID") + _secret_name(source, path),
    "cephfs": _requires("monitors"),
    "quobyte": _quobyte,
    "downwardAPI": _downward,
    "fc": fibre_channel,
    "flexVolume": flex,
    "configMap": _config_map,
    "azureFile": _requires("secretName", "shareName"),
    "vsphereVolume": _requires("volumePath"),
    "photonPersistentDisk": _requires("pdID"),
    "portworxVolume": _requires("volumeID"),
    "azureDisk": _azure_disk,
    "storageos": lambda source, path: storage_os(source, path) + _secret_name(source, path),
    "projected": _projected,
    "scaleIO": _requires("gateway", "system", "volumeName"),
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
}
"""The checks of each source, in the order in which Kubernetes tries them: the first is checked, others are refused."""

CHECKED_AS: Final = {"gcePersistentDisk": "persistentDisk"}
"""Sources whose problems are reported under another name."""
REFUSED_AS: Final = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
"""Sources that are called so when they are a second one."""


def volumes(
    items: Sequence[Object] | None, path: str, pod: Object | None = None
) -> tuple[dict[str, Object], list[FieldError]]:
    """The volumes by name, and what is wrong with them. `pod` is the metadata of their pod; a template has none."""
    errors: list[FieldError] = []
    found: dict[str, Object] = {}
    owner = text(pod or {}, "name")
    made = {f"{owner}-{text(v, 'name')}" for v in items or () if owner and v.get("ephemeral") is not None}
    for at, volume in each(path, items):
        wrong = _source(volume, at, pod)
        name = text(volume, "name")
        wrong += fields.check_required(f"{at}.name", name, names.dns1123_label)
        if name in found:
            wrong.append(duplicate(f"{at}.name", name))
        if not wrong:
            found[name] = volume
        errors += wrong
        if (claim := text(part(volume, "persistentVolumeClaim"), "claimName")) in made:
            detail = "must not reference a PVC that gets created for an ephemeral volume"
            errors.append(invalid_value(f"{at}.persistentVolumeClaim.claimName", claim, detail))
    return found, errors


def _source(volume: Object, path: str, pod: Object | None) -> list[FieldError]:
    """The rules of the one source, and a word about each that is too much."""
    given = [kind for kind in POD_SOURCES if volume.get(kind) is not None]
    if not given:
        return [required(path, "must specify a volume type")]
    errors: list[FieldError] = []
    for kind in given:
        if kind == given[0]:
            errors += POD_SOURCES[kind](volume[kind], f"{path}.{CHECKED_AS.get(kind, kind)}")
            errors += _of_pod(kind, volume, path, pod)
        else:
            errors.append(forbidden_field(f"{path}.{REFUSED_AS.get(kind, kind)}", _ONE_TYPE))
        if kind == "iscsi" and iscsi_name_too_long(text(volume, "name"), volume[kind]):
            errors.append(invalid_value(f"{path}.name", text(volume, "name"), ISCSI_TOO_LONG))
    return errors


def _of_pod(kind: str, volume: Object, path: str, pod: Object | None) -> list[FieldError]:
    """What is asked of a pod's volume, and not of a template's."""
    if pod is None:
        return []
    if kind == "image":
        return [] if volume[kind].get("reference") else [required(f"{path}.image.reference")]
    name = text(volume, "name")
    if kind != "ephemeral" or not name or not text(pod, "name"):
        return []
    claim = f"{text(pod, 'name')}-{name}"
    says = [f'PVC name "{claim}": {message}' for message in names.dns1123_subdomain(claim)]
    return fields.says(f"{path}.name", name, says)


# PersistentVolumeClaims

ACCESS_MODES: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES: Final = ("Block", "Filesystem")


def access_modes(modes: Sequence[str] | None, path: str) -> list[FieldError]:
    """Each mode is known, and the one for a single pod stands alone."""
    held = modes or ()
    errors = [e for mode in held for e in fields.one_of(path, mode, ACCESS_MODES)]
    if "ReadWriteOncePod" in held and any(m in ACCESS_MODES for m in held if m != "ReadWriteOncePod"):
        errors.append(forbidden_field(path, "may not use ReadWriteOncePod with other access modes"))
    return errors


def claim_spec(spec: Object, path: str, *, any_group: bool = False) -> list[FieldError]:
    """A `PersistentVolumeClaimSpec`. With `any_group` a data source may have an API group that is no domain: the
    stored claim has one already."""
    modes = spec.get("accessModes")
    errors = [] if modes else [required(f"{path}.accessModes", "at least 1 access mode is required")]
    errors += fields.label_selector(f"{path}.selector", spec.get("selector"))
    errors += access_modes(modes, f"{path}.accessModes")
    storage = part(spec, "resources", "requests").get("storage")
    at = f"{path}.resources[storage]"
    errors += [required(at)] if storage is None else positive_storage(storage, at)
    if name := spec.get("storageClassName"):
        errors += fields.check(f"{path}.storageClassName", name, names.dns1123_subdomain)
    if (mode := spec.get("volumeMode")) is not None:
        errors += fields.one_of(f"{path}.volumeMode", mode, VOLUME_MODES)
    errors += _data_sources(spec, path, any_group)
    if name := spec.get("volumeAttributesClassName"):
        errors += fields.check(f"{path}.volumeAttributesClassName", name, names.dns1123_subdomain)
    return errors


def positive_storage(amount: Any, path: str) -> list[FieldError]:
    if requirements.nanos(amount) > 0:
        return []
    return [invalid_value(path, requirements.canonical(amount), "must be greater than zero")]


def _data_sources(spec: Object, path: str, any_group: bool) -> list[FieldError]:
    source: Object | None = spec.get("dataSource")
    reference: Object | None = spec.get("dataSourceRef")
    errors: list[FieldError] = []
    for key, held in (("dataSource", source), ("dataSourceRef", reference)):
        if held is not None:
            errors += _data_source(held, f"{path}.{key}", any_group)
    if source is None or reference is None:
        return errors
    # Kubernetes shows a path here, which prints as an empty object.
    if reference.get("namespace"):
        errors.append(invalid_value(path, {}, "may not be specified when dataSourceRef.namespace is specified"))
    elif any(source.get(key) != reference.get(key) for key in ("apiGroup", "kind", "name")):
        errors.append(invalid_value(path, {}, "must match dataSourceRef"))
    return errors


def _data_source(source: Object, path: str, any_group: bool) -> list[FieldError]:
    errors = _missing(source, path, "name", "kind")
    group, kind = text(source, "apiGroup"), text(source, "kind")
    if not group and kind != "PersistentVolumeClaim":
        detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.append(invalid_value(path, kind, detail))
    if group and not any_group:
        errors += fields.check(f"{path}.apiGroup", group, names.dns1123_subdomain)
    if namespace := text(source, "namespace"):
        errors += fields.check(f"{path}.namespace", namespace, names.dns1123_label)
    return errors
