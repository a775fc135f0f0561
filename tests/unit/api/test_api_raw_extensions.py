"""What Kubernetes keeps raw is owned as a whole."""

from podling.api import field_sets
from podling.api.schema import Schemas


def test_the_data_of_a_controller_revision_is_owned_as_a_whole() -> None:
    node = Schemas.load().node("io.k8s.api.apps.v1.ControllerRevision")
    revision = {"data": {"a": {"b": 1}}, "revision": 1}
    assert field_sets.field_set(revision, node)["f:data"] == {}
    added = field_sets.compare({}, revision, node)
    assert {**(added.added or {}), **(added.modified or {})}["f:data"] == {}
