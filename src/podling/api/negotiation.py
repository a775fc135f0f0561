"""Which form of an answer a client accepts: JSON, YAML, and of either a Table or the metadata alone.

Protobuf is not spoken in answers: clients that prefer it (client-go) accept JSON as their second choice.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from podling.api.errors import ApiError

JSON = "application/json"
YAML = "application/yaml"

_META_GROUP = "meta.k8s.io"
_SUPPORTED = (
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
)


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

    def choose(self, accept: str) -> Form:
        """The best form for an `Accept` header. Raises `ApiError` 406."""
        form = self._known.get(accept)
        if form is None:
            form = _negotiate(accept)
            if len(self._known) < 256:
                self._known[accept] = form
        return form


def _negotiate(accept: str) -> Form:
    clauses = [_clause(text) for text in accept.split(",")]
    for media_type, parameters in sorted(clauses, key=_preference):
        form = _form(media_type, parameters)
        if form is not None:
            return form
    accepted = ", ".join(_SUPPORTED)
    raise ApiError(406, "NotAcceptable", f"only the following media types are accepted: {accepted}")


def _clause(text: str) -> tuple[str, dict[str, str]]:
    media_type, *parameters = (part.strip() for part in text.split(";"))
    pairs = (parameter.partition("=") for parameter in parameters)
    return media_type.lower(), {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _preference(clause: tuple[str, dict[str, str]]) -> tuple[float, int]:
    media_type, parameters = clause
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        quality = 0.0
    return -quality, media_type.count("*")


def _form(media_type: str, parameters: dict[str, str]) -> Form | None:
    concrete = {"*/*": JSON, "application/*": JSON, JSON: JSON, YAML: YAML}.get(media_type)
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


def wrong_shape(shape: Shape, go_type: str, *, is_list: bool) -> ApiError:
    """The 406 of a list shape for one object, or the other way round."""
    what = f"is a list ({go_type})" if is_list else f"is not a list ({go_type})"
    return ApiError(406, "NotAcceptable", f"you requested {shape.value}, but the requested object {what}")
