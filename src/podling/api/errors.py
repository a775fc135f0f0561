"""Errors as the API answers them: `metav1.Status` (API conventions, "Response Status Kind").

`ApiError` is the one exception that crosses the API's rooms: whoever refuses a request raises it, the HTTP
layer writes `ApiError.status()`, and in-process clients (controllers, node) catch it and ask `.reason`.
Validation problems are `FieldError`s, gathered and raised together by `invalid()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from podling.api import gotext
from podling.store.types import Object


@dataclass(frozen=True, slots=True)
class FieldError:
    """One `field.Error` (k8s.io/apimachinery/pkg/util/validation/field).

    `type` is the machine-readable cause (`FieldValueRequired`, ...), `field` the JSON path
    (`spec.containers[0].name`), `message` the text behind the path. Build them with the functions below.
    """

    type: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def go_value(value: Any) -> str:
    """The value as Kubernetes prints it behind `Invalid value: `."""
    return gotext.quoted(value) if isinstance(value, str) else gotext.json_text(value)


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, "Required value" + (f": {detail}" if detail else ""))


def invalid_value(field: str, value: Any, detail: str = "") -> FieldError:
    text = f"Invalid value: {go_value(value)}" + (f": {detail}" if detail else "")
    return FieldError("FieldValueInvalid", field, text)


def omitted_value(field: str, detail: str) -> FieldError:
    """An `Invalid` error that does not show its value."""
    return FieldError("FieldValueInvalid", field, f"Invalid value: {detail}")


def not_supported(field: str, value: Any, valid: Sequence[str]) -> FieldError:
    text = f"Unsupported value: {go_value(value)}"
    if valid:
        text += ": supported values: " + ", ".join(go_value(v) for v in valid)
    return FieldError("FieldValueNotSupported", field, text)


def forbidden_field(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueForbidden", field, "Forbidden" + (f": {detail}" if detail else ""))


def internal_field(field: str, detail: str) -> FieldError:
    return FieldError("InternalError", field, f"Internal error: {detail}")


def duplicate(field: str, value: Any, detail: str = "") -> FieldError:
    text = f"Duplicate value: {go_value(value)}" + (f": {detail}" if detail else "")
    return FieldError("FieldValueDuplicate", field, text)


def not_found_value(field: str, value: Any, detail: str = "") -> FieldError:
    return FieldError("FieldValueNotFound", field, f"Not found: {go_value(value)}" + (f": {detail}" if detail else ""))


def too_long(field: str, limit: int) -> FieldError:
    return FieldError("FieldValueTooLong", field, f"Too long: may not be more than {limit} bytes")


def too_many(field: str, actual: int, limit: int) -> FieldError:
    return FieldError("FieldValueTooMany", field, f"Too many: {actual}: must have at most {limit} items")


def type_invalid(field: str, value: Any, detail: str = "") -> FieldError:
    text = f"Invalid value: {go_value(value)}" + (f": {detail}" if detail else "")
    return FieldError("FieldValueTypeInvalid", field, text)


class ApiError(Exception):
    """A refused request: an HTTP code, a machine-readable reason and a sentence."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Object | None = None,
        *,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = tuple(headers)

    def status(self) -> Object:
        """The `metav1.Status` object of this error."""
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status


def _qualified(plural: str, group: str) -> str:
    """`deployments.apps`, and `deployments/scale.apps` of a subresource."""
    return f"{plural}.{group}" if group else plural


def _details(name: str, group: str, kind: str) -> Object:
    """`details`; the API's own habit: for most errors `kind` holds the plural resource name."""
    details: Object = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    return details


def not_found(plural: str, group: str, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{_qualified(plural, group)} "{name}" not found', _details(name, group, plural))


def already_exists(plural: str, group: str, name: str) -> ApiError:
    message = f'{_qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(name, group, plural))


def name_not_generated(plural: str, group: str, name: str) -> ApiError:
    """Of an object that asks for a generated name, whose name is taken nevertheless (`NewGenerateNameConflict`)."""
    message = f'{_qualified(plural, group)} "{name}" already exists, {_NOT_UNIQUE}'
    details = {**_details(name, group, plural), "retryAfterSeconds": 1}
    return ApiError(409, "AlreadyExists", message, details, headers=(("Retry-After", "1"),))


_NOT_UNIQUE = "the server was not able to generate a unique name for the object"


def conflict(plural: str, group: str, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(name, group, plural))


OBJECT_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def forbidden(plural: str, group: str, name: str, why: str) -> ApiError:
    subject = _qualified(plural, group) + (f' "{name}"' if name else "")
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {why}", _details(name, group, plural))


def invalid(kind: str, group: str, name: str, errors: Iterable[FieldError]) -> ApiError:
    """422 Invalid with one cause for each field error (`details.kind` is the Kind here).

    A sentence that two checks have said stands once in the message and twice among the causes, as Kubernetes has it.
    """
    problems = list(errors)
    texts = list(dict.fromkeys(str(e) for e in problems))
    message = f'{_qualified(kind, group)} "{name}" is invalid'
    if len(texts) == 1:
        message += f": {texts[0]}"
    elif texts:
        message += f": [{', '.join(texts)}]"
    details = _details(name, group, kind)
    if problems:
        details["causes"] = [{"reason": e.type, "message": e.message, "field": e.field} for e in problems]
    return ApiError(422, "Invalid", message, details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def internal(message: str) -> ApiError:
    details: Object = {"causes": [{"message": message}]}
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", details)


def unsupported_media_type(supported: Sequence[str]) -> ApiError:
    message = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(supported)
    return ApiError(415, "UnsupportedMediaType", message)
