"""CustomResourceDefinition: a kind that a user brings."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, required, too_many
from podling.api.meta import find_condition
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.admissionregistration.webhooks import client_config
from podling.kinds.apiextensions import fieldpaths, structural
from podling.kinds.apiextensions.internal import STRUCTS
from podling.kinds.core.poddefaults import fill
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import created_columns, created_row
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text, without
from podling.kinds.validation.meta import changed, common, metadata
from podling.store.types import Object

_SCOPES: Final = ("Cluster", "Namespaced")
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_HOISTED: Final = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")
"""What stands at every version and, where all versions agree, is checked once for the whole spec."""

_COLUMN_FORMATS: Final = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_LONGEST_WARNING: Final = 256
_MAX_SELECTABLE: Final = 8


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    called: Object = spec.setdefault("names", {})
    if kind := text(called, "kind"):
        fill(called, "singular", kind.lower())
        fill(called, "listKind", f"{kind}List")
    conversion = part(spec, "conversion")
    spec["conversion"] = conversion
    fill(conversion, "strategy", "None")
    service: Object | None = part(conversion, "webhook", "clientConfig").get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443
    if spec.get("preserveUnknownFields") is False:
        del spec["preserveUnknownFields"]


def prepare(write: Write) -> None:
    """The storage version is noted among those that objects may be stored in."""
    keep_status(write)
    status = write.new["status"] = part(write.new, "status")
    status.setdefault("conditions", None)
    status.setdefault("acceptedNames", {"plural": "", "kind": ""})
    stored: list[str] = entries(status, "storedVersions")
    now = [text(v, "name") for v in entries(write.new["spec"], "versions") if v.get("storage")][:1]
    if write.subresource != "status":
        stored = [*stored, *(name for name in now if name not in stored)]
    status["storedVersions"] = stored or None


CLEANUP: Final = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer that keeps a definition until its instances are gone."""


def deleting(obj: Object) -> None:
    """The definition stays until its instances are gone, and says so."""
    metadata = obj["metadata"]
    if CLEANUP not in entries(metadata, "finalizers"):
        metadata["finalizers"] = [*entries(metadata, "finalizers"), CLEANUP]
    status = part(obj, "status")
    if find_condition(entries(status, "conditions"), "Terminating") is None:
        words = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        condition = {
            "type": "Terminating",
            "status": "True",
            "lastTransitionTime": metadata["deletionTimestamp"],
            "reason": "InstanceDeletionPending",
            "message": words,
        }
        obj["status"] = {**status, "conditions": [*entries(status, "conditions"), condition]}


def held(obj: Object) -> bool:
    """A delete never removes a definition at once: its finalizer is set with the first."""
    return not part(obj, "metadata").get("deletionTimestamp")


def warn(write: Write) -> None:
    """Of formats that mean nothing, where an update brings them."""
    known = set(_unknown_formats(write.old or {}))
    write.warnings += [f'unrecognized format "{form}"' for form in _unknown_formats(write.new) if form not in known]


def _unknown_formats(definition: Object) -> list[str]:
    versions: list[Object] = entries(part(definition, "spec"), "versions")
    schemas = [part(version, "schema", "openAPIV3Schema") for version in versions]
    if len(schemas) > 1 and all(schema == schemas[0] for schema in schemas):
        schemas = schemas[:1]
    return [form for schema in schemas for form in structural.unknown_formats(schema)]


def _name(spec: Object) -> names.NameRule:
    wanted = f"{text(part(spec, 'names'), 'plural')}.{text(spec, 'group')}"

    def rule(value: str, prefix: bool) -> list[str]:
        wrong = [] if value == wanted else ['must be spec.names.plural+"."+spec.group']
        return names.subdomain_name(value, prefix) + wrong

    return rule


def validate(write: Write) -> list[FieldError]:
    spec, status = part(write.new, "spec"), part(write.new, "status")
    if write.subresource == "status":
        return (
            common(write)
            + changed(write, any_finalizer=True)
            + _names(part(status, "acceptedNames"), "status.acceptedNames")
        )
    old = write.old
    errors = (
        common(write) + changed(write, any_finalizer=True)
        if old
        else metadata(write.new, namespaced=False, name=_name(spec))
    )
    errors += _spec(spec)
    if old is not None:
        errors += _update(spec, old)
    errors += _names(part(status, "acceptedNames"), "status.acceptedNames")
    errors += _stored_versions(entries(status, "storedVersions"), spec)
    errors += _approval(write.new, old)
    if spec.get("preserveUnknownFields") and not part(old or {}, "spec").get("preserveUnknownFields"):
        detail = (
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        )
        errors.append(invalid_value("spec.preserveUnknownFields", True, detail))
    return errors


_APPROVED: Final = "api-approved.kubernetes.io"
_PROTECTED: Final = ("k8s.io", "kubernetes.io")


def _approved(obj: Object) -> str:
    """Whether the community has approved a kind in one of its own groups: `""`, `unapproved`, `approved`, `invalid`."""
    given = text(part(obj, "metadata", "annotations"), _APPROVED)
    if not given or given.startswith("unapproved"):
        return "unapproved" if given else ""
    try:
        parts = urlsplit(given)
    except ValueError:
        return "invalid"
    return "approved" if parts.scheme and parts.netloc else "invalid"


def _approval(new: Object, old: Object | None) -> list[FieldError]:
    group, state = text(part(new, "spec"), "group"), _approved(new)
    if not any(group == own or group.endswith(f".{own}") for own in _PROTECTED):
        return []
    if state in ("approved", "unapproved") or (old is not None and _approved(old) == state):
        return []
    path = f"metadata.annotations[{_APPROVED}]"
    why = f'protected groups must have approval annotation "{_APPROVED}"'
    where = "see https://github.com/kubernetes/enhancements/pull/1111"
    if not state:
        return [required(path, f"{why}, {where}")]
    detail = f'{why} with either a URL or a reason starting with "unapproved", {where}'
    return [invalid_value(path, part(new, "metadata", "annotations")[_APPROVED], detail)]


def _spec(spec: Object) -> list[FieldError]:
    errors = _group(text(spec, "group"))
    errors += fields.one_of_required("spec.scope", text(spec, "scope"), _SCOPES)
    versions: list[Object] = entries(spec, "versions")
    common = {key for key in _HOISTED if versions and all(v.get(key) == versions[0].get(key) for v in versions)}
    errors += _versions(spec.get("versions"), common)
    called = part(spec, "names")
    for key in ("plural", "singular", "kind", "listKind"):
        if not text(called, key):
            errors.append(required(f"spec.names.{key}"))
    errors += _names(called, "spec.names")
    if versions:
        shared = {k: v for k, v in versions[0].items() if k in common}
        errors += _parts(shared, versions[0], "spec", "validation")
    return errors + _conversion(part(spec, "conversion"))


def _group(group: str) -> list[FieldError]:
    path = "spec.group"
    if not group:
        return [required(path)]
    if wrong := names.dns1123_subdomain(group):
        return [invalid_value(path, group, ",".join(wrong))]
    return [] if "." in group else [invalid_value(path, group, "should be a domain with at least one dot")]


def _label(path: str, value: str, before: str = "") -> list[FieldError]:
    wrong = names.dns1035_label(value.lower() if before else value)
    return [invalid_value(path, value, before + ",".join(wrong))] if wrong else []


def _versions(declared: list[Object] | None, common: set[str]) -> list[FieldError]:
    versions, shown = declared or [], _shown(declared, common)
    errors = [
        required(f"{at}.schema.openAPIV3Schema")
        for at, version in each("spec.versions", versions)
        if part(version, "schema").get("openAPIV3Schema") is None
    ]
    for at, version in each("spec.versions", versions):
        errors += _label(f"{at}.name", text(version, "name"))
        errors += _deprecation(version, f"{at}.deprecationWarning")
        own = {k: v for k, v in version.items() if k in _HOISTED and k not in common}
        errors += _parts(own, version, at, "schema")
    called = [text(v, "name") for v in versions]
    if len(called) != len(set(called)):
        errors.append(invalid_value("spec.versions", shown, "must contain unique version names"))
    if sum(bool(v.get("storage")) for v in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        errors.append(invalid_value("spec.versions", shown, detail))
    return errors + (_label("spec.version", called[0]) if called and called[0] else [])


def _deprecation(version: Object, path: str) -> list[FieldError]:
    warning: str | None = version.get("deprecationWarning")
    if warning is None:
        return []
    if not version.get("deprecated"):
        return [invalid_value(path, warning, "can only be set for deprecated versions")]
    wrong = [f"must be <= {_LONGEST_WARNING} characters long"] if len(warning.encode()) > _LONGEST_WARNING else []
    if not warning:
        wrong.append("must not be an empty string")
    odd = next((i for i, character in enumerate(warning) if not character.isprintable()), None)
    if odd is not None:
        at = len(warning[:odd].encode())
        only = "must only contain printable UTF-8 characters"
        wrong.append(f"{only}; non-printable character found at index {at}")
    return fields.says(path, warning, wrong)


def _shown(versions: list[Object] | None, common: set[str]) -> list[Object] | None:
    """The versions as internal Go values: without what has been hoisted."""
    return STRUCTS.shown("[]CustomResourceDefinitionVersion", versions and [without(v, *common) for v in versions])


def _names(called: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("plural", "singular"):
        if value := text(called, key):
            errors += _label(f"{path}.{key}", value)
    for key in ("kind", "listKind"):
        if value := text(called, key):
            errors += _label(f"{path}.{key}", value, "may have mixed case, but should otherwise match: ")
    for at, value in each(f"{path}.shortNames", called.get("shortNames")):
        errors += _label(at, value)
    if text(called, "kind") and text(called, "kind") == text(called, "listKind"):
        detail = "kind and listKind may not be the same"
        errors.append(invalid_value(f"{path}.listKind", called["listKind"], detail))
    for at, value in each(f"{path}.categories", called.get("categories")):
        errors += _label(at, value)
    return errors


def _parts(version: Object, whole: Object, path: str, schema_key: str) -> list[FieldError]:
    """Schema, subresources, columns and selectable fields, of one version or of all; `whole` has them in any case."""
    errors: list[FieldError] = []
    schema = part(whole, "schema", "openAPIV3Schema")
    if part(version, "schema").get("openAPIV3Schema") is not None:
        at = f"{path}.{schema_key}.openAPIV3Schema"
        with_status = part(whole, "subresources").get("status") is not None
        errors += structural.schema(schema, at, with_status=with_status)
    errors += _subresources(part(version, "subresources"), f"{path}.subresources")
    for at, column in each(f"{path}.additionalPrinterColumns", version.get("additionalPrinterColumns")):
        errors += _column(column, at)
    return errors + _selectable(entries(version, "selectableFields"), schema, f"{path}.selectableFields")


def _selectable(selectable: list[Object], schema: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, field in each(path, selectable):
        json_path = text(field, "jsonPath")
        if not json_path:
            errors.append(required(f"{at}.jsonPath"))
            continue
        try:
            followed = fieldpaths.follow(json_path, schema, brackets=False)
        except fieldpaths.PathError as error:
            errors.append(invalid_value(f"{at}.jsonPath", json_path, f"is an invalid path: {error}"))
            continue
        if followed.path.split(".")[0].split("[")[0] == "metadata":
            errors.append(invalid_value(f"{at}.jsonPath", json_path, "must not point to fields in metadata"))
        if text(followed.schema, "type") not in ("string", "boolean", "integer"):
            detail = (
                "must point to a field of type string, boolean or integer. "
                "Enum string fields and strings with formats are allowed."
            )
            errors.append(invalid_value(f"{at}.jsonPath", json_path, detail))
        if followed.path in seen:
            errors.append(duplicate(f"{at}.jsonPath", json_path))
        seen.add(followed.path)
    if len(seen) > _MAX_SELECTABLE:
        errors.append(too_many(path, len(seen), _MAX_SELECTABLE))
    return errors


def _subresources(subresources: Object, path: str) -> list[FieldError]:
    scale: Object | None = subresources.get("scale")
    if scale is None:
        return []
    errors: list[FieldError] = []
    for key, root in (("specReplicasPath", "spec"), ("statusReplicasPath", "status")):
        given, at = text(scale, key), f"{path}.scale.{key}"
        if not given:
            errors.append(required(at))
        else:
            errors += _scale_path(given, at, (f".{root}.",), f"under .{root}")
    if given := text(scale, "labelSelectorPath"):
        at = f"{path}.scale.labelSelectorPath"
        errors += _scale_path(given, at, (".spec.", ".status."), "under either .spec or .status")
    return errors


def _scale_path(value: str, path: str, roots: tuple[str, ...], where: str) -> list[FieldError]:
    errors = _simple_path(value, path)
    if errors or value.startswith(roots):
        return errors
    return [invalid_value(path, value, f"should be a json path {where}")]


def _simple_path(value: str, path: str) -> list[FieldError]:
    return [] if value.startswith(".") else [invalid_value(path, value, "must be a simple json path starting with .")]


def _column(column: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not text(column, "name"):
        errors.append(required(f"{path}.name"))
    kind, form, json_path = (text(column, key) for key in ("type", "format", "jsonPath"))
    if not kind:
        errors.append(required(f"{path}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
    elif kind not in _COLUMN_TYPES:
        errors.append(invalid_value(f"{path}.type", kind, f"must be one of {','.join(_COLUMN_TYPES)}"))
    if form and form not in _COLUMN_FORMATS:
        errors.append(invalid_value(f"{path}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}"))
    return errors + (_simple_path(json_path, f"{path}.JSONPath") if json_path else [required(f"{path}.JSONPath")])


def _conversion(conversion: Object) -> list[FieldError]:
    path, strategy = "spec.conversion", text(conversion, "strategy")
    errors = fields.one_of_required(f"{path}.strategy", strategy, ("None", "Webhook"))
    webhook = part(conversion, "webhook")
    config, versions = webhook.get("clientConfig"), entries(webhook, "conversionReviewVersions")
    if strategy != "Webhook":
        detail = "should not be set when strategy is not set to Webhook"
        given = {"webhookClientConfig": config is not None, "conversionReviewVersions": bool(versions)}
        return errors + [forbidden_field(f"{path}.{key}", detail) for key, there in given.items() if there]
    if config is None:
        errors.append(required(f"{path}.webhookClientConfig", "required when strategy is set to Webhook"))
    else:
        errors += client_config(config, f"{path}.webhookClientConfig")
    return errors + _review_versions(versions, f"{path}.conversionReviewVersions")


def _review_versions(versions: list[str], path: str) -> list[FieldError]:
    if not versions:
        return [required(path)]
    errors: list[FieldError] = []
    for index, version in enumerate(versions):
        if version in versions[:index]:
            errors.append(invalid_value(f"{path}[{index}]", version, "duplicate version"))
        else:
            errors += fields.check(f"{path}[{index}]", version, names.dns1035_label)
    if not {"v1", "v1beta1"} & set(versions):
        errors.append(invalid_value(path, versions, "must include at least one of v1, v1beta1"))
    return errors


def _stored_versions(stored: list[str], spec: Object) -> list[FieldError]:
    path = "status.storedVersions"
    if not stored:
        return [invalid_value(path, None, "must have at least one stored version")]
    versions: list[Object] = entries(spec, "versions")
    errors = [
        invalid_value(path, stored, f"must have the storage version {text(version, 'name')}")
        for version in versions
        if version.get("storage") and text(version, "name") not in stored
    ]
    known = {text(version, "name") for version in versions}
    for at, version in each(path, stored):
        if version not in known:
            detail = (
                f"missing from spec.versions; {version} was previously a storage version, and must remain in "
                "spec.versions until a storage migration ensures no data remains persisted in "
                f"{version} and removes {version} from status.storedVersions"
            )
            errors.append(invalid_value(at, version, detail))
    return errors


def _update(spec: Object, old: Object) -> list[FieldError]:
    """What names the kind in the store stays once the definition is in force."""
    established = any(
        c.get("type") == "Established" and c.get("status") == "True" for c in entries(part(old, "status"), "conditions")
    )
    before = part(old, "spec")
    errors: list[FieldError] = []
    if established:
        errors += fields.immutable("spec.scope", spec.get("scope"), before.get("scope"))
        kinds: list[Any] = [text(part(s, "names"), "kind") for s in (spec, before)]
        errors += fields.immutable("spec.names.kind", *kinds)
    errors += fields.immutable("spec.group", spec.get("group"), before.get("group"))
    plurals: list[Any] = [text(part(s, "names"), "plural") for s in (spec, before)]
    return errors + fields.immutable("spec.names.plural", *plurals)


def resource() -> Resource:
    return Resource(
        group="apiextensions.k8s.io",
        version="v1",
        kind="CustomResourceDefinition",
        plural="customresourcedefinitions",
        singular="customresourcedefinition",
        namespaced=False,
        schema="io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        status=True,
        strategy=Strategy(
            unconditional_update=False,
            default=default,
            prepare=prepare,
            validate=validate,
            warn=warn,
            deleting=deleting,
            held=held,
        ),
        columns=created_columns(),
        row=created_row,
    )
