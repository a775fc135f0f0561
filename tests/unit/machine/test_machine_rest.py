"""What may be asked of the nodes of the machine."""

from __future__ import annotations

import orjson
import pytest

from podling.api.errors import ApiError
from podling.machine_rest import wanted


def test_a_number_of_nodes_and_what_each_has() -> None:
    assert wanted(b'{"count": 3, "capacity": null}') == (3, None)
    assert wanted(b'{"count": 1, "capacity": {"cpu": "2"}}') == (1, {"cpu": "2"})


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"{", "wanted is"),
        (orjson.dumps({"count": 0, "capacity": None}), "the count is 1 to 100"),
        (orjson.dumps({"count": 101, "capacity": None}), "the count is 1 to 100"),
        (orjson.dumps({"count": 1, "capacity": {"cpu": "much"}}), '"cpu=much" is no RESOURCE=QUANTITY'),
        (orjson.dumps({"count": 1, "capacity": {"cpu": 2}}), '"cpu=2" is no RESOURCE=QUANTITY'),
        (orjson.dumps({"count": 1, "capacity": {"memory": "1Mi"}}), "leaves nothing for pods"),
    ],
)
def test_what_no_node_can_be_is_refused_before_anything_is_written(body: bytes, complaint: str) -> None:
    with pytest.raises(ApiError) as refused:
        wanted(body)
    assert refused.value.code == 400
    assert complaint in refused.value.message
