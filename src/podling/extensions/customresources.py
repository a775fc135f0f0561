"""From a CustomResourceDefinition to resources that the API serves: one `Resource` for each served version.

Objects are stored in the definition's storage version. What another version writes is converted, pruned and defaulted
by the storage version's schema on its way to the store; what is read gets the storage version's defaults, as if it
had been written today (`apiextensions-apiserver/pkg/registry/customresource`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, cast

from podling.api.discovery import version_rank
from podling.api.errors import FieldError, invalid_value
from podling.api.resources import STATUS_ALONE, Conversion, Reader, Resource, ScalePaths, Strategy, Write
from podling.api.scale import at_path
from podling.api.schema import Node, Schemas
from podling.api.structs import shape
from podling.extensions.columns import columns_and_row
from podling.extensions.conversion import ConversionWebhook, Form, WebhookConversion
from podling.extensions.defaulting import Fill, compile_defaults, compile_filling, filled
from podling.kinds.apiextensions.instances import structure
from podling.kinds.apiextensions.instances.rules import Rules, compile_rules
from podling.kinds.apiextensions.instances.schema import Check, compile_schema, problems
from podling.kinds.validation import names
from podling.kinds.validation.fields import entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

Convert = Callable[[Object], Object]

_PRUNED_PARTS: Final = frozenset({"apiVersion", "kind", "metadata"})
_BLOCKING: Final = frozenset(
    {
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    }
)
_UNCHECKED: Final = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation"
)
_MAX_INT32: Final = 2**31 - 1


def definition_name(group: str, version: str, kind: str) -> str:
    """The OpenAPI name of a custom kind: `com.example.stable.v1.CronTab`."""
    return ".".join([*reversed(group.split(".")), version, kind])


def resources_of(definition: Object, schemas: Schemas, reader: Reader) -> list[Resource]:
    """The resources that a definition asks for, the preferred version first; their schemas are registered."""
    versions: list[Object] = entries(definition["spec"], "versions")
    storage = next(version for version in versions if version.get("storage"))
    served = [version for version in versions if version.get("served")]
    served.sort(key=lambda version: version_rank(version["name"]))
    for version in versions:
        _register(definition, version, schemas)
    codec = _codec(definition, storage, schemas, reader)
    return [_resource(definition, version, codec) for version in served]


def _schema_of(version: Object) -> Object:
    return part(version, "schema", "openAPIV3Schema")


def _register(definition: Object, version: Object, schemas: Schemas) -> None:
    spec = definition["spec"]
    group, kind = spec["group"], spec["names"]["kind"]
    name = definition_name(group, version["name"], kind)
    schemas.register(name, _schema_of(version), group, version["name"], kind)


def _resource(definition: Object, version: Object, codec: Codec) -> Resource:
    spec = definition["spec"]
    called = _accepted_names(definition)
    group, kind = cast(str, spec["group"]), cast(str, called["kind"])
    schema = _schema_of(version)
    subresources = part(version, "subresources")
    columns, row = columns_and_row(entries(version, "additionalPrinterColumns"))
    codec = replace(codec, served=f"{group}/{version['name']}")
    return Resource(
        group=group,
        version=version["name"],
        kind=kind,
        plural=called["plural"],
        singular=text(called, "singular") or kind.lower(),
        list_kind=text(called, "listKind"),
        namespaced=spec["scope"] == "Namespaced",
        schema=definition_name(group, version["name"], kind),
        short_names=tuple(entries(called, "shortNames")),
        categories=tuple(entries(called, "categories")),
        strategy=_strategy(schema, subresources),
        status="status" in subresources,
        scale=_scale_paths(subresources),
        columns=columns,
        row=row,
        selectable=_selectable(version),
        custom=True,
        deprecation=_deprecation(definition, version),
        to_storage=codec.to_storage,
        from_storage=codec.from_storage,
        conversion=codec.conversion,
        stored_as=codec.stored,
    )


def _accepted_names(definition: Object) -> Object:
    """The names in force: those that were accepted last, on a conflict not the ones asked for."""
    accepted = part(definition, "status", "acceptedNames")
    return accepted if text(accepted, "plural") else definition["spec"]["names"]


def _scale_paths(subresources: Object) -> ScalePaths | None:
    scale: Object | None = subresources.get("scale")
    if scale is None:
        return None
    return ScalePaths(
        spec_replicas=scale["specReplicasPath"].lstrip("."),
        status_replicas=scale["statusReplicasPath"].lstrip("."),
        selector=text(scale, "labelSelectorPath").lstrip("."),
        custom=True,
    )


def _selectable(version: Object) -> Mapping[str, Callable[[Object], str]]:
    paths = [cast(str, field["jsonPath"]).lstrip(".") for field in entries(version, "selectableFields")]
    return {path: partial(_selected, path=path) for path in paths}


def _selected(obj: Object, path: str) -> str:
    value = at_path(obj, path)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _deprecation(definition: Object, version: Object) -> str:
    """The warning that every request to a deprecated version is answered with."""
    if not version.get("deprecated"):
        return ""
    if warning := version.get("deprecationWarning"):
        return warning
    spec = definition["spec"]
    kind, group, name = spec["names"]["kind"], spec["group"], version["name"]
    words = f"{group}/{name} {kind} is deprecated"
    better = _replacement(spec, name)
    return f"{words}; use {group}/{better} {kind}" if better else words


def _replacement(spec: Object, name: str) -> str:
    """The served version to use instead: the first in order of stability, if it is above the deprecated one."""
    good = [v["name"] for v in entries(spec, "versions") if v.get("served") and not v.get("deprecated")]
    best = min(good, key=version_rank, default="")
    return best if best and version_rank(best) < version_rank(name) else ""


# Storage


def _codec(definition: Object, storage: Object, schemas: Schemas, reader: Reader) -> Codec:
    """Of the storage version; each served version gets its own of it."""
    spec = definition["spec"]
    group, kind = spec["group"], spec["names"]["kind"]
    forms = {
        f"{group}/{version['name']}": Form(
            schemas.node(definition_name(group, version["name"], kind)), compile_defaults(_schema_of(version))
        )
        for version in entries(spec, "versions")
    }
    stored = f"{group}/{storage['name']}"
    mixed = any(name != storage["name"] for name in entries(part(definition, "status"), "storedVersions"))
    asks = text(part(spec, "conversion"), "strategy") == "Webhook"
    hook = ConversionWebhook(part(spec, "conversion", "webhook"), reader) if asks else None
    return Codec(forms=forms, served=stored, stored=stored, mixed=mixed, hook=hook)


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """From a served version to the stored one and back."""

    forms: Mapping[str, Form]
    served: str
    stored: str
    mixed: bool
    """Whether objects may be stored in another version still."""
    hook: ConversionWebhook | None

    @property
    def _is_same(self) -> bool:
        return self.served == self.stored and not self.mixed

    @property
    def conversion(self) -> Conversion | None:
        if self.hook is None or self._is_same:
            return None
        return WebhookConversion(self.hook, self.forms, served=self.served, stored=self.stored)

    @property
    def to_storage(self) -> Convert | None:
        if self.served == self.stored or self.hook is not None:
            return None
        form = self.forms[self.stored]
        return partial(_stored, api_version=self.stored, node=form.node, fill=form.fill)

    @property
    def from_storage(self) -> Convert | None:
        fill = self.forms[self.stored].fill
        if self.conversion is not None or (self._is_same and fill is None):
            return None
        return partial(_read, api_version=self.served, fill=fill)


def _stored(obj: Object, *, api_version: str, node: Node, fill: Fill | None) -> Object:
    converted, _ = shape({**obj, "apiVersion": api_version}, node)
    return filled(converted, fill)


def _read(obj: Object, *, api_version: str, fill: Fill | None) -> Object:
    ordered = {"kind": obj["kind"], **obj, "apiVersion": api_version}
    return filled(ordered, fill)


# The strategy


def _strategy(schema: Object, subresources: Object) -> Strategy:
    has_status = "status" in subresources
    return Strategy(
        default=compile_filling(schema),
        prepare=_prepare if has_status else _no_change,
        validate=_Validation(schema, _scale_paths(subresources)),
        warn=_warn,
        generation=partial(_generation_differs, has_status=has_status),
        unconditional_update=False,
        resets=STATUS_ALONE if has_status else {},
    )


def _no_change(_write: Write) -> None:
    """Without a status subresource a write is stored as it is."""


def _prepare(write: Write) -> None:
    """Of what is sent to the status subresource, only the status counts."""
    if write.subresource == "status" and write.old is not None:
        sent = write.new["metadata"]
        kept = {k: v for k, v in write.old["metadata"].items() if k != "managedFields"}
        owners = {"managedFields": sent["managedFields"]} if "managedFields" in sent else {}
        write.new["metadata"] = {**kept, **owners, "resourceVersion": sent.get("resourceVersion")}


def _generation_differs(old: Object, new: Object, *, has_status: bool) -> bool:
    ignored = {"metadata", "apiVersion", "kind", *(("status",) if has_status else ())}
    return any(old.get(key) != new.get(key) for key in (old.keys() | new.keys()) - ignored)


_STANDARD_FINALIZERS: Final = frozenset({"orphan", "foregroundDeletion", "kubernetes"})


def _warn(write: Write) -> None:
    """Of new finalizers that others might choose as well."""
    before = entries(part(write.old or {}, "metadata"), "finalizers")
    path, others = "metadata.finalizers", "to avoid accidental conflicts with other finalizer writers"
    for name in sorted({*entries(part(write.new, "metadata"), "finalizers")} - {*before}):
        write.warnings += [f'{path}: "{name}": {said}' for said in names.qualified_name(name)]
        if "/" not in name and name not in _STANDARD_FINALIZERS:
            path_too = " including a path (/)" if "." in name else ""
            write.warnings.append(f'{path}: "{name}": prefer a domain-qualified finalizer name{path_too} {others}')


class _Validation:
    """All that a custom resource is checked for; compiled when the first object is written."""

    def __init__(self, schema: Object, scale: ScalePaths | None) -> None:
        self._schema = schema
        self._scale = scale
        self._compiled: tuple[Check, Rules | None] | None = None
        self._embeds = structure.needs_embedded(schema)
        self._lists = structure.needs_list_types(schema)

    def __call__(self, write: Write) -> list[FieldError]:
        check, rules = self._compiled or self._compile()
        obj = write.new
        errors = object_meta(write)
        errors += problems(check, obj, write.old)
        errors += self._scale_errors(obj)
        if self._embeds:
            errors += structure.embedded(self._schema, obj)
        if self._lists and not (write.old and structure.list_types(self._schema, write.old)):
            errors += structure.list_types(self._schema, obj)
        if rules is not None:
            errors += self._rule_errors(rules, write, errors)
        return errors

    def _compile(self) -> tuple[Check, Rules | None]:
        self._compiled = compile_schema(_whole(self._schema)), compile_rules(self._schema)
        return self._compiled

    def _rule_errors(self, rules: Rules, write: Write, found: list[FieldError]) -> list[FieldError]:
        if any(error.type in _BLOCKING for error in found):
            return [invalid_value("<nil>", None, _UNCHECKED)]
        return rules.problems(write.new, write.old, write.warnings)

    def _scale_errors(self, obj: Object) -> list[FieldError]:
        if self._scale is None:
            return []
        errors: list[FieldError] = []
        for path in (self._scale.spec_replicas, self._scale.status_replicas):
            count = at_path(obj, path)
            if isinstance(count, bool) or not isinstance(count, int):
                continue
            if count < 0:
                errors.append(invalid_value(f".{path}", count, "should be a non-negative integer"))
            elif count > _MAX_INT32:
                detail = f"should be less than or equal to {_MAX_INT32}"
                errors.append(invalid_value(f".{path}", count, detail))
        return errors


def _whole(schema: Object) -> Object:
    """The schema without what every object has and the API machinery checks."""
    fields = {k: v for k, v in part(schema, "properties").items() if k not in _PRUNED_PARTS}
    return {**schema, "properties": fields}
