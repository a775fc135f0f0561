"""Which form of an answer a client accepts: JSON, YAML, and of either a Table or the metadata alone.

Protobuf is not spoken in answers: clients that prefer it (client-go) accept JSON as their second choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from podling.api.errors import ApiError

_REMEMBERED = 256
"""So many headers."""

JSON = "application/json"
YAML = "application/yaml"

_META_GROUP = "meta.k8s.io"
_SUPPORTED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_STREAMED = ("application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")


class Shape(Enum):
    """What is shown of an object."""

    OBJECT = ""
    TABLE = "Table"
    PARTIAL = "PartialObjectMetadata"
    PARTIAL_LIST = "PartialObjectMetadataList"


class Form(NamedTuple):
    """The negotiated form; `version` is that of meta.k8s.io for the shapes that have one."""

    media_type: str
    shape: Shape
    version: str = "v1"
    pretty: bool = False


PLAIN = Form(JSON, Shape.OBJECT)


class Negotiator:
    """Chooses forms; remembers its choices, because clients send the same few headers for ever."""

    def __init__(self) -> None:
        self._known: dict[str, Form] = {"": PLAIN, "*/*": PLAIN, JSON: PLAIN}
        self._for_errors: dict[str, Form] = {"": PLAIN, "*/*": PLAIN, JSON: PLAIN}

    def choose(self, accept: str, *, listing: bool = False) -> Form:
        """The best form for an `Accept` header. Raises `ApiError` 406, which for lists knows of streams too."""
        form = self._known.get(accept)
        if form is None:
            form = _best(_clauses(accept))
            if form is None:
                raise _not_acceptable(accept, listing=listing)
            if len(self._known) < _REMEMBERED:
                self._known[accept] = form
        return form

    def for_errors(self, accept: str) -> Form:
        """The form of an error: never a shape, and JSON to be read where nothing else is accepted."""
        form = self._for_errors.get(accept)
        if form is None:
            shapeless = [clause for clause in _clauses(accept) if "as" not in clause[1]]
            form = _best(shapeless) or PLAIN._replace(pretty=True)
            if len(self._for_errors) < _REMEMBERED:
                self._for_errors[accept] = form
        return form


_Clause = tuple[str, dict[str, str]]


def _clauses(accept: str) -> list[_Clause]:
    """The best first."""
    return sorted((_clause(text) for text in accept.split(",")), key=_preference)


def _best(clauses: Iterable[_Clause]) -> Form | None:
    forms = (_form(media_type, parameters) for media_type, parameters in clauses)
    return next((form for form in forms if form is not None), None)


def _not_acceptable(accept: str, *, listing: bool) -> ApiError:
    """A media type that is not spoken at all is refused by the router, one with bad parameters behind it."""
    if any(media_type in _SUPPORTED for media_type, _ in _clauses(accept)):
        problem = f"only the following media types are accepted: {', '.join(_SUPPORTED)}"
        return ApiError(406, "NotAcceptable", problem)
    spoken = ", ".join((*_SUPPORTED, *_STREAMED) if listing else _SUPPORTED)
    return ApiError(406, "NotAcceptable", f"406: Not Acceptable\n\nAvailable representations: {spoken}", {})


def _clause(text: str) -> _Clause:
    media_type, *parameters = (part.strip() for part in text.split(";"))
    pairs = (parameter.partition("=") for parameter in parameters)
    return media_type, {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _preference(clause: _Clause) -> tuple[float, int]:
    media_type, parameters = clause
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        quality = 0.0
    return -quality, media_type.count("*")


def _form(media_type: str, parameters: dict[str, str]) -> Form | None:
    concrete = {"*/*": JSON, JSON: JSON, YAML: YAML}.get(media_type)
    if concrete is None:
        return None
    pretty = parameters.get("pretty") == "1"
    wanted = parameters.get("as", "")
    if not wanted:
        return Form(concrete, Shape.OBJECT, pretty=pretty)
    version = parameters.get("v", "")
    if parameters.get("g") != _META_GROUP or version not in ("v1", "v1beta1"):
        return None
    try:
        return Form(concrete, Shape(wanted), version, pretty)
    except ValueError:
        return None


def check_streamed(form: Form) -> None:
    """Raises 406 for a form that no watch can have."""
    if form.media_type is YAML:
        problem = f"only the following media types are accepted: {', '.join(_STREAMED)}"
        raise ApiError(406, "NotAcceptable", problem)


def wrong_shape(shape: Shape, go_type: str, *, is_list: bool) -> ApiError:
    """The 406 of a list shape for one object, or the other way round."""
    what = f"is a list ({go_type})" if is_list else f"is not a list ({go_type})"
    return ApiError(406, "NotAcceptable", f"you requested {shape.value}, but the requested object {what}")
