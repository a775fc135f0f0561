"""The structs of `pkg/apis/apiextensions` below a version of a definition: how errors show them."""

from __future__ import annotations

from typing import Any, Final

from podling.kinds.validation.internal import Structs
from podling.store.types import Object


def _schema_or_list(value: Any) -> Object:
    return {"jsonSchemas" if isinstance(value, list) else "schema": value}


def _schema_or_bool(value: Any) -> Object:
    return {"allows": value is not False, "schema": value if isinstance(value, dict) else None}


def _schema_or_names(value: Any) -> Object:
    return {"property" if isinstance(value, list) else "schema": value}


_DECLARED: Final = {
    "CustomResourceDefinitionVersion": (
        "Name Served:bool Storage:bool Deprecated:bool DeprecationWarning:*string Schema:*CustomResourceValidation "
        "Subresources:*CustomResourceSubresources AdditionalPrinterColumns:[]CustomResourceColumnDefinition "
        "SelectableFields:[]SelectableField"
    ),
    "CustomResourceValidation": "OpenAPIV3Schema:*JSONSchemaProps",
    "JSONSchemaProps": (
        "ID Schema=$schema Ref=$ref:*string Description Type Nullable:bool Format Title Default:*any Maximum:*float "
        "ExclusiveMaximum:bool Minimum:*float ExclusiveMinimum:bool MaxLength:*int MinLength:*int Pattern "
        "MaxItems:*int MinItems:*int UniqueItems:bool MultipleOf:*float Enum:[]any MaxProperties:*int "
        "MinProperties:*int Required:[]string Items:*JSONSchemaPropsOrArray AllOf:[]JSONSchemaProps "
        "OneOf:[]JSONSchemaProps AnyOf:[]JSONSchemaProps Not:*JSONSchemaProps Properties:{}JSONSchemaProps "
        "AdditionalProperties:*JSONSchemaPropsOrBool PatternProperties:{}JSONSchemaProps "
        "Dependencies:{}JSONSchemaPropsOrStringArray AdditionalItems:*JSONSchemaPropsOrBool "
        "Definitions:{}JSONSchemaProps ExternalDocs:*ExternalDocumentation Example:*any "
        "XPreserveUnknownFields=x-kubernetes-preserve-unknown-fields:*bool "
        "XEmbeddedResource=x-kubernetes-embedded-resource:bool XIntOrString=x-kubernetes-int-or-string:bool "
        "XListMapKeys=x-kubernetes-list-map-keys:[]string XListType=x-kubernetes-list-type:*string "
        "XMapType=x-kubernetes-map-type:*string XValidations=x-kubernetes-validations:[]ValidationRule"
    ),
    "JSONSchemaPropsOrArray": "Schema:*JSONSchemaProps JSONSchemas:[]JSONSchemaProps",
    "JSONSchemaPropsOrBool": "Allows:bool Schema:*JSONSchemaProps",
    "JSONSchemaPropsOrStringArray": "Schema:*JSONSchemaProps Property:[]string",
    "ExternalDocumentation": "Description URL",
    "ValidationRule": "Rule Message MessageExpression Reason:*string FieldPath OptionalOldSelf:*bool",
    "CustomResourceSubresources": "Status:*any Scale:*CustomResourceSubresourceScale",
    "CustomResourceSubresourceScale": "SpecReplicasPath StatusReplicasPath LabelSelectorPath:*string",
    "CustomResourceColumnDefinition": "Name Type Format Description Priority:int JSONPath",
    "SelectableField": "JSONPath",
}

STRUCTS: Final = Structs(
    _DECLARED,
    {
        "JSONSchemaPropsOrArray": _schema_or_list,
        "JSONSchemaPropsOrBool": _schema_or_bool,
        "JSONSchemaPropsOrStringArray": _schema_or_names,
    },
)
