"""Which fields the root of a schema may have where `/status` is served: the schema of the status has to hold alone.

(`validateCustomResourceDefinitionValidation` of `pkg/apis/apiextensions/validation`)
"""

from __future__ import annotations

from typing import Final

from podling.api.errors import FieldError, invalid_value
from podling.kinds.apiextensions.internal import STRUCTS
from podling.store.types import Object

_ALLOWED: Final = (
    *("Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum"),
    *("MaxLength", "MinLength", "Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items"),
    *("Properties", "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations"),
)


def check(root: Object, path: str) -> list[FieldError]:
    """The first field of the root that may not be there is told."""
    shown: Object = STRUCTS.shown("JSONSchemaProps", root)
    for name, value in shown.items():
        if value in (None, "", False, [], {}):
            continue
        if name == "Type" and value != "object":
            detail = (
                'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
            )
            return [invalid_value(f"{path}.type", value, detail)]
        if name not in _ALLOWED:
            names = " ".join(_ALLOWED)
            detail = f"only [{names}] fields are allowed at the root of the schema if the status subresource is enabled"
            return [invalid_value(path, shown, detail)]
    return []
