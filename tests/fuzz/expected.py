"""Which answers a real API server gives as well. Imports nothing of podling: it is schemathesis' hooks, too."""

from __future__ import annotations

import importlib.util
from typing import Any

OWN = (
    *(b"resourceVersion should not be set on objects to be created", b"failed to create typed patch object"),
    *(b"failed to convert new typed object", b"strconv.ParseUint: parsing", b"target.name: Required", b"target.kind: "),
    *(b"failed calling webhook ", b"conversion webhook for "),
    *(b"unknown patch type: ", b"does not contain declared merge key", b"doesn't match $setElementOrder"),
    *(b'"expected a ', b"unable to find api field in struct ", b"data type is not struct, instead is: map"),
    *(
        b"The order in patch list:",
        b"no elements in any of the given slices",
        b"list element types are not identical: ",
    ),
    *(b"cannot merge lists without merge key for struct", b"merging lists cannot yet be specified in the patch"),
)
"""What Kubernetes itself answers with 500: plain errors of its registry that nobody gave a status, and webhooks that
must not fail and cannot be called."""


def is_expected(status: int, body: bytes) -> bool:
    """Whether a real API server might say so too. A 500 without a body answers a HEAD; only the log tells of it."""
    if status < 500 or status in (501, 503, 504):
        return True
    return status == 500 and (not body or any(text in body for text in OWN))


def answers_as_kubernetes(_context: Any, response: Any, _case: Any) -> None:
    """A check of schemathesis, in place of its `not_a_server_error`."""
    assert is_expected(response.status_code, response.content), f"{response.status_code} {response.content[:300]!r}"


if importlib.util.find_spec("schemathesis"):
    import schemathesis

    schemathesis.check(answers_as_kubernetes)
