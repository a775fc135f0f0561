"""What a namespace may use, and what a write adds to it."""

from __future__ import annotations

import pytest

from podling.controllers import quotaadmission, resourcequota


def pod(**resources: object) -> dict:
    return {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "a:1", "resources": resources}]},
    }


def quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: object) -> dict:
    return {
        "metadata": {"name": "q", "namespace": "default"},
        "spec": {"hard": hard, **spec},
        "status": {"hard": hard, "used": used or dict.fromkeys(hard, "0")},
    }


def test_use_is_the_sum_of_what_is_there() -> None:
    content = {"pods": [pod(requests={"cpu": "300m"})], "services": [{"spec": {"type": "NodePort", "ports": [{}]}}]}
    limits = quota({"pods": "5", "requests.cpu": "2", "services": "5", "services.nodeports": "5"})
    assert resourcequota.used(limits, lambda resource: content.get(resource, [])) == {
        "pods": "1",
        "requests.cpu": "300m",
        "services": "1",
        "services.nodeports": "1",
    }


def test_a_scope_counts_only_the_pods_that_it_means() -> None:
    best_effort = quota({"pods": "5"}, scopes=["BestEffort"])
    assert resourcequota.in_scope(best_effort, pod())
    assert not resourcequota.in_scope(best_effort, pod(requests={"cpu": "1"}))


def test_too_much_is_refused_with_all_that_is_exceeded() -> None:
    raised = quotaadmission.increase("pods", None, pod(requests={"cpu": "2"}))
    with pytest.raises(ValueError, match=r"exceeded quota: q, requested: pods=1,requests\.cpu=2, used: pods=1,"):
        quotaadmission.charged(quota({"pods": "1", "requests.cpu": "1"}, {"pods": "1", "requests.cpu": "0"}), raised)


def test_an_update_is_charged_only_for_the_increase() -> None:
    assert quotaadmission.increase("pods", pod(requests={"cpu": "2"}), pod(requests={"cpu": "1"})) == {}


def test_a_limited_amount_must_be_told() -> None:
    limits = quota({"limits.cpu": "1", "requests.memory": "1Gi"})
    assert quotaadmission.unspecified(limits, pod()) == "limits.cpu for: c; requests.memory for: c"
