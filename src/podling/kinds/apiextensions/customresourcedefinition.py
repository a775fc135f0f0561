"""CustomResourceDefinition: a kind that a user brings."""

from __future__ import annotations

import re
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, required
from podling.api.meta import find_condition
from podling.api.resources import Resource, Strategy, Write
from podling.kinds.admissionregistration.webhooks import client_config
from podling.kinds.apiextensions import rules, structural
from podling.kinds.core.poddefaults import fill
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import created_columns, created_row
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_SCOPES: Final = ("Cluster", "Namespaced")
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_HOISTED: Final = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")
"""What stands at every version and, where all versions agree, is checked once for the whole spec."""

_SIMPLE_PATH: Final = r"(\.[^.\[\]]+|\['[^']+'\]|\[\d+\])+"


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
    now = [text(v, "name") for v in entries(write.new["spec"], "versions") if v.get("storage")]
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


def _name(spec: Object) -> names.NameRule:
    wanted = f"{text(part(spec, 'names'), 'plural')}.{text(spec, 'group')}"

    def rule(value: str, prefix: bool) -> list[str]:
        return [] if value == wanted and not prefix else ['must be spec.names.plural+"."+spec.group']

    return rule


def validate(write: Write) -> list[FieldError]:
    spec, status = part(write.new, "spec"), part(write.new, "status")
    errors = object_meta(write, _name(spec))
    if write.subresource != "status":
        errors += _spec(spec)
    errors += _stored_versions(entries(status, "storedVersions"), spec)
    if write.old is not None and write.subresource != "status":
        errors += _update(spec, write.old)
    if spec.get("preserveUnknownFields") and write.old is None:
        detail = (
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        )
        errors.append(invalid_value("spec.preserveUnknownFields", True, detail))
    return errors


def _spec(spec: Object) -> list[FieldError]:
    errors = _group(text(spec, "group"))
    errors += fields.one_of_required("spec.scope", text(spec, "scope"), _SCOPES)
    versions: list[Object] = entries(spec, "versions")
    common = {key for key in _HOISTED if versions and all(v.get(key) == versions[0].get(key) for v in versions)}
    errors += _versions(versions, common)
    called = part(spec, "names")
    for key in ("plural", "singular", "kind", "listKind"):
        if not text(called, key):
            errors.append(required(f"spec.names.{key}"))
    errors += _names(called, "spec.names")
    if versions:
        shared = {k: v for k, v in versions[0].items() if k in common}
        errors += _parts(shared, part(versions[0], "schema", "openAPIV3Schema"), "spec", "validation")
    return errors + _conversion(part(spec, "conversion"))


def _group(group: str) -> list[FieldError]:
    path = "spec.group"
    if not group:
        return [required(path)]
    wrong = names.dns1123_subdomain(group)
    if not wrong and "." not in group:
        wrong = ["should be a domain with at least one dot"]
    return fields.says(path, group, wrong)


def _versions(versions: list[Object], common: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, version in each("spec.versions", versions):
        errors += fields.check(f"{at}.name", text(version, "name"), names.dns1035_label)
        if part(version, "schema").get("openAPIV3Schema") is None:
            errors.append(required(f"{at}.schema.openAPIV3Schema"))
        own = {k: v for k, v in version.items() if k in _HOISTED and k not in common}
        errors += _parts(own, part(version, "schema", "openAPIV3Schema"), at, "schema")
    called = [text(v, "name") for v in versions]
    if len(called) != len(set(called)):
        errors.append(invalid_value("spec.versions", _shown(versions, common), "must contain unique version names"))
    if sum(bool(v.get("storage")) for v in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        errors.append(invalid_value("spec.versions", _shown(versions, common), detail))
    if called and called[0]:
        errors += fields.check("spec.version", called[0], names.dns1035_label)
    return errors


def _shown(versions: list[Object], common: set[str]) -> list[Object]:
    """The versions as internal Go values: without what has been hoisted."""
    shown: list[Object] = []
    for version in versions:
        rest = {key: None if key in common else version.get(key) for key in _HOISTED}
        shown.append(
            {
                "Name": text(version, "name"),
                "Served": bool(version.get("served")),
                "Storage": bool(version.get("storage")),
                "Deprecated": bool(version.get("deprecated")),
                "DeprecationWarning": version.get("deprecationWarning"),
                "Schema": rest["schema"],
                "Subresources": rest["subresources"],
                "AdditionalPrinterColumns": rest["additionalPrinterColumns"],
                "SelectableFields": rest["selectableFields"],
            }
        )
    return shown


def _names(called: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("plural", "singular"):
        if value := text(called, key):
            errors += fields.check(f"{path}.{key}", value, names.dns1035_label)
    for key in ("kind", "listKind"):
        value = text(called, key)
        wrong = names.dns1035_label(value.lower()) if value else []
        errors += fields.says(
            f"{path}.{key}",
            value,
            [f"may have mixed case, but should otherwise match: {', '.join(wrong)}"] if wrong else [],
        )
    for key in ("shortNames", "categories"):
        for at, value in each(f"{path}.{key}", called.get(key)):
            errors += fields.check(at, value, names.dns1035_label)
    if text(called, "kind") and text(called, "kind") == text(called, "listKind"):
        detail = "kind and listKind may not be the same"
        errors.append(invalid_value(f"{path}.listKind", called["listKind"], detail))
    return errors


def _parts(version: Object, schema: Object, path: str, schema_key: str) -> list[FieldError]:
    """Schema, subresources, columns and selectable fields, of one version or of all."""
    errors: list[FieldError] = []
    if part(version, "schema").get("openAPIV3Schema") is not None:
        at = f"{path}.{schema_key}.openAPIV3Schema"
        wrong = structural.schema(schema, at)
        errors += wrong or rules.check(schema, at)
    errors += _subresources(part(version, "subresources"), f"{path}.subresources")
    for at, column in each(f"{path}.additionalPrinterColumns", version.get("additionalPrinterColumns")):
        errors += _column(column, at)
    for at, field in each(f"{path}.selectableFields", version.get("selectableFields")):
        json_path = text(field, "jsonPath")
        if not json_path:
            errors.append(required(f"{at}.jsonPath"))
        elif not structural.refers_to_value(schema, json_path):
            detail = "is an invalid path: does not refer to a valid field"
            errors.append(invalid_value(f"{at}.jsonPath", json_path, detail))
    return errors


def _subresources(subresources: Object, path: str) -> list[FieldError]:
    scale: Object | None = subresources.get("scale")
    if scale is None:
        return []
    errors: list[FieldError] = []
    for key, root in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        errors += _scale_path(text(scale, key), root, f"{path}.scale.{key}")
    selector = scale.get("labelSelectorPath")
    if selector is not None:
        errors += _scale_path(selector, (".spec.", ".status."), f"{path}.scale.labelSelectorPath")
    return errors


def _scale_path(value: str, roots: str | tuple[str, ...], path: str) -> list[FieldError]:
    if not value:
        return [required(path)]
    if not re.fullmatch(_SIMPLE_PATH, value):
        return [invalid_value(path, value, "must be a simple json path starting with .")]
    if not value.startswith(roots):
        shown = roots if isinstance(roots, str) else "{ .spec } or { .status }"
        return [
            invalid_value(path, value, f"should be a json path under {shown.strip('.') if shown == roots else shown}")
        ]
    return []


def _column(column: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not text(column, "name"):
        errors.append(required(f"{path}.name"))
    kind, json_path = text(column, "type"), text(column, "jsonPath")
    if not kind:
        errors.append(required(f"{path}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
    elif kind not in _COLUMN_TYPES:
        errors.append(invalid_value(f"{path}.type", kind, f"must be one of {','.join(_COLUMN_TYPES)}"))
    if not json_path:
        errors.append(required(f"{path}.JSONPath"))
    elif not json_path.startswith("."):
        errors.append(invalid_value(f"{path}.JSONPath", json_path, "must be a simple json path starting with ."))
    return errors


def _conversion(conversion: Object) -> list[FieldError]:
    path, strategy = "spec.conversion", text(conversion, "strategy")
    errors = fields.one_of_required(f"{path}.strategy", strategy, ("None", "Webhook"))
    webhook = part(conversion, "webhook")
    if strategy != "Webhook":
        if webhook.get("clientConfig") is not None:
            detail = "should not be set when strategy is not set to Webhook"
            errors.append(forbidden_field(f"{path}.webhookClientConfig", detail))
        return errors
    config = webhook.get("clientConfig")
    if config is None:
        errors.append(required(f"{path}.webhookClientConfig", "required when strategy is set to Webhook"))
    else:
        errors += client_config(config, f"{path}.webhookClientConfig")
    versions: list[str] = entries(webhook, "conversionReviewVersions")
    if not versions:
        errors.append(required(f"{path}.conversionReviewVersions"))
    elif not {"v1", "v1beta1"} & set(versions):
        detail = "must include at least one of v1, v1beta1"
        errors.append(invalid_value(f"{path}.conversionReviewVersions", versions, detail))
    return errors


def _stored_versions(stored: list[str], spec: Object) -> list[FieldError]:
    if not stored:
        return [invalid_value("status.storedVersions", None, "must have at least one stored version")]
    known = {text(v, "name") for v in entries(spec, "versions")}
    return [
        invalid_value(at, version, "must appear in spec.versions")
        for at, version in each("status.storedVersions", stored)
        if version not in known
    ]


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
            deleting=deleting,
            held=held,
        ),
        columns=created_columns(),
        row=created_row,
    )
