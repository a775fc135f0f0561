"""Recommendations of the vertical autoscaler, as its documentation describes the recommender."""

from __future__ import annotations

import math
import random
import statistics
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.controllers.runtime import describe
from podling.controllers.vpa.checkpoints import restored, written
from podling.controllers.vpa.controller import Memory, Snapshot, decide, measure
from podling.controllers.vpa.histogram import CPU, MEMORY, Histogram
from podling.controllers.vpa.recommendation import (
    LOWER_BOUND,
    TARGET,
    UPPER_BOUND,
    compare,
    recommend,
    resources_for,
)
from podling.controllers.vpa.updater import updates
from podling.controllers.vpa.usage import PEAK_INTERVAL, History

MINUTE, DAY = 60.0, 86400.0
START = 1_700_000_000.0


def history(days: float, cores: float = 0.5, memory: float = 1e9, step: float = MINUTE) -> History:
    """One pod that used the same all the time."""
    found = History()
    for minute in range(int(days * DAY / step) + 1):
        found.add("pod", START + minute * step, cores=cores, memory=memory, requested_cores=0.1)
    return found


def vpa(**policy: object) -> dict:
    return {"spec": {"resourcePolicy": {"containerPolicies": [{"containerName": "*", **policy}]}}}


# Histogram


def test_a_bucket_is_five_per_cent_wider_than_the_one_before() -> None:
    widths = [CPU.start(b + 1) - CPU.start(b) for b in range(3)]
    assert widths == pytest.approx([0.01, 0.0105, 0.011025])


@given(st.floats(min_value=0, max_value=900))
def test_every_value_lies_in_the_bucket_that_is_found_for_it(value: float) -> None:
    bucket = CPU.find(value)
    assert CPU.start(bucket) <= value * (1 + 1e-9) + 1e-12
    assert value <= CPU.start(bucket + 1) * (1 + 1e-9)


def test_a_percentile_is_the_end_of_its_bucket() -> None:
    histogram = Histogram(CPU)
    for number in range(10):
        histogram.add(0.005 if number < 9 else 1.0, 1.0, START)
    assert histogram.percentile(0.9) == pytest.approx(0.01)
    assert histogram.percentile(0.91) == CPU.start(CPU.find(1.0) + 1)


def test_an_empty_histogram_has_no_percentile() -> None:
    assert Histogram(MEMORY).percentile(0.9) == 0.0


def test_after_a_half_life_a_sample_counts_half() -> None:
    histogram = Histogram(CPU)
    histogram.add(1.0, 1.0, START)
    histogram.add(0.1, 1.0, START + DAY)
    low, high = CPU.find(0.1), CPU.find(1.0)
    assert histogram.weights[low] == pytest.approx(2 * histogram.weights[high])


def test_a_year_without_samples_does_not_overflow() -> None:
    histogram = Histogram(CPU)
    histogram.add(1.0, 1.0, START)
    histogram.add(0.1, 1.0, START + 4000 * DAY)
    assert histogram.percentile(0.5) == CPU.start(CPU.find(0.1) + 1)


def test_what_is_subtracted_is_gone() -> None:
    histogram = Histogram(CPU)
    histogram.add(1.0, 1.0, START)
    histogram.subtract(1.0, 1.0, START)
    assert histogram.empty


def test_a_checkpoint_brings_the_percentiles_back() -> None:
    old, new = history(1).cpu, Histogram(CPU)
    kept = old.checkpoint()
    new.restore(kept["bucketWeights"], kept["totalWeight"], old.reference)
    assert [new.percentile(p) for p in (0.5, 0.9, 0.95)] == [old.percentile(p) for p in (0.5, 0.9, 0.95)]


# History


def test_only_the_peak_of_a_day_s_memory_counts() -> None:
    found = History()
    for minute, memory in enumerate((1e9, 3e9, 2e9)):
        found.add("pod", START + minute * MINUTE, cores=0.1, memory=memory, requested_cores=0.1)
    assert list(found.memory.weights) == [MEMORY.find(3e9)]


def test_the_next_day_has_its_own_peak() -> None:
    found = History()
    found.add("pod", START, cores=0.1, memory=3e9, requested_cores=0.1)
    found.add("pod", START + PEAK_INTERVAL, cores=0.1, memory=1e9, requested_cores=0.1)
    assert sorted(found.memory.weights) == [MEMORY.find(1e9), MEMORY.find(3e9)]


def test_the_same_sample_counts_once() -> None:
    found = History()
    for _ in range(3):
        found.add("pod", START, cores=0.1, memory=1e9, requested_cores=0.1)
    assert found.samples == 1


def test_confidence_is_days_of_history() -> None:
    assert history(2).confidence == pytest.approx(2, rel=0.01)
    assert history(2, step=10 * MINUTE).confidence == pytest.approx(0.2, rel=0.01)


def test_a_history_outlives_the_daemon() -> None:
    old = history(2)
    new = restored(written(old))
    for estimator in (LOWER_BOUND, TARGET, UPPER_BOUND):
        assert estimator.of(new) == pytest.approx(estimator.of(old))


# Recommendation


def test_the_target_is_within_twenty_per_cent_of_the_need() -> None:
    """After the eight days of history that the recommender's documentation speaks of, of a service that is busy by day
    and idle by night, with noise; it needs the 90th percentile of its CPU and its daily peaks of memory."""
    dice = random.Random(8)
    found, cores, peaks = History(), [], []
    for day in range(8):
        memory = [dice.uniform(0.7e9, 1e9) for _ in range(24 * 60)]
        peaks.append(max(memory))
        for minute, used in enumerate(memory):
            busy = 0.5 + 0.4 * math.sin(2 * math.pi * minute / (24 * 60))
            cores.append(busy * dice.uniform(0.8, 1.2))
            at = START + day * DAY + minute * MINUTE
            found.add("pod", at, cores=cores[-1], memory=used, requested_cores=0.1)
    need = statistics.quantiles(cores, n=10)[-1], statistics.quantiles(peaks, n=10)[-1]
    target = TARGET.of(found)
    assert need[0] <= target["cpu"] / 1000 <= 1.2 * need[0]
    assert need[1] <= target["memory"] <= 1.2 * need[1]


def test_out_of_memory_asks_for_more_than_was_there() -> None:
    found = history(1, memory=1e9)
    found.out_of_memory("pod", found.last, requested=1.5e9)
    assert MEMORY.find(1.8e9) in found.memory.weights
    small = history(1, memory=1e7)
    small.out_of_memory("pod", small.last, requested=0)
    assert MEMORY.find(1e7 + 100 * 1024 * 1024) in small.memory.weights


def test_out_of_memory_counts_once_also_for_who_comes_back() -> None:
    found = history(1)
    for _ in range(2):
        found.out_of_memory("pod", found.last, requested=1e9)
    weights = dict(found.memory.weights)
    back = restored(written(found))
    back.out_of_memory("pod", found.last, requested=1e9)
    assert back.memory.weights.keys() == weights.keys()


def test_days_of_peaks_begin_where_the_first_one_did() -> None:
    found = History()
    for hours in (0, 30, 47, 49):
        found.add("pod", START + hours * 3600, cores=0.1, memory=hours * 1e9 + 1e9, requested_cores=0.1)
    assert found.peaks["pod"].ends == START + 3 * DAY
    assert sorted(found.memory.weights) == [MEMORY.find(gb * 1e9) for gb in (1, 48, 50)]


@pytest.mark.parametrize(("days", "times"), [(1, 2.0), (7, 8 / 7)])
def test_the_upper_bound_comes_down_with_history(days: float, times: float) -> None:
    found = history(days)
    assert UPPER_BOUND.of(found)["cpu"] == pytest.approx(TARGET.of(found)["cpu"] * times, rel=0.01)


def test_the_lower_bound_comes_up_with_history() -> None:
    short, long = history(5 / 1440), history(1)
    assert LOWER_BOUND.of(short)["cpu"] == pytest.approx(TARGET.of(short)["cpu"] * 0.6, rel=0.05)
    assert LOWER_BOUND.of(long)["cpu"] == pytest.approx(TARGET.of(long)["cpu"], rel=0.01)


def test_an_idle_pod_gets_the_least_shared_by_its_containers() -> None:
    idle = history(8, cores=0.0, memory=0.0)
    (alone,) = recommend(vpa(), {"c": idle})
    assert alone["target"] == {"cpu": "25m", "memory": "262144k"}
    first, second = recommend(vpa(), {"a": idle, "b": idle})
    assert first["target"] == second["target"] == {"cpu": "12m", "memory": "131072k"}


def test_the_policy_limits_all_but_the_uncapped_target() -> None:
    (found,) = recommend(vpa(minAllowed={"cpu": "1"}, maxAllowed={"memory": "500Mi"}), {"c": history(8)})
    assert found["target"] == {"cpu": "1", "memory": "524288k"}
    assert found["uncappedTarget"]["cpu"] != "1"
    assert found["upperBound"]["memory"] == "524288k"


def test_only_controlled_resources_are_recommended() -> None:
    (found,) = recommend(vpa(controlledResources=["memory"]), {"c": history(1)})
    assert list(found["target"]) == ["memory"]


def test_a_container_whose_policy_is_off_gets_nothing() -> None:
    assert recommend(vpa(mode="Off"), {"c": history(1)}) == []


def test_a_pod_is_out_of_bounds_when_it_requests_too_little_or_too_much_or_nothing() -> None:
    found = {"c": recommend(vpa(controlledResources=["cpu"]), {"c": history(8)})[0]}

    def requesting(**requests: str) -> bool:
        return compare(
            vpa(), {"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}}, found
        ).outside

    assert requesting(cpu="100m")
    assert not requesting(cpu="600m")
    assert requesting(cpu="2")
    assert requesting()


# Updating pods


RECOMMENDED = [
    {
        "containerName": "c",
        "lowerBound": {"cpu": "80m"},
        "target": {"cpu": "100m"},
        "upperBound": {"cpu": "200m"},
    }
]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def running(name: str, cpu: str, **status: object) -> dict:
    """A pod of one container that requests so much CPU."""
    container = {"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": "1"}}}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": [container]},
        "status": {"phase": "Running", "qosClass": "Burstable", **status},
    }


def pending_resize(reason: str, minutes: int = 0) -> dict:
    since = (NOW - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": "PodResizePending", "status": "True", "reason": reason, "lastTransitionTime": since}
    return {"conditions": [condition]}


def updated(mode: str, *pods: dict, least: int | None = None, requirement: str = "") -> list[str]:
    """Which pods are updated, and how."""
    policy = {"updateMode": mode, **({"minReplicas": least} if least else {})}
    if requirement:
        policy["evictionRequirements"] = [{"resources": ["cpu"], "changeRequirement": requirement}]
    autoscaler = {"metadata": {"name": "v", "namespace": "default"}, "spec": {"updatePolicy": policy}}
    target = {"spec": {"replicas": len(pods)}}
    return [describe(action).partition(":")[0] for action in updates(autoscaler, target, pods, RECOMMENDED, NOW)]


def test_recreate_evicts_half_of_the_pods_that_are_out_of_bounds_at_a_time() -> None:
    pods = [running(f"p{n}", "10m") for n in range(4)]
    assert updated("Recreate", *pods) == ["create pods/eviction p0", "create pods/eviction p1"]


def test_pods_within_the_bounds_are_left_alone() -> None:
    assert updated("Recreate", running("a", "90m"), running("b", "150m")) == []


@pytest.mark.parametrize("mode", ["Off", "Initial"])
def test_only_some_modes_touch_running_pods(mode: str) -> None:
    assert updated(mode, running("a", "10m"), running("b", "10m")) == []


def test_a_single_pod_is_evicted_only_where_the_policy_says_so() -> None:
    assert updated("Recreate", running("a", "10m")) == []
    assert updated("Recreate", running("a", "10m"), least=1) == ["create pods/eviction a"]


def test_in_place_changes_all_at_once_and_evicts_none() -> None:
    pods = [running(f"p{n}", "10m") for n in range(3)]
    assert updated("InPlaceOrRecreate", *pods) == [f"patch pods/resize p{n}" for n in range(3)]


def test_in_place_gives_way_to_recreate_where_the_node_cannot() -> None:
    infeasible = running("a", "10m", **pending_resize("Infeasible"))
    waiting = running("b", "10m", **pending_resize("Deferred", minutes=1))
    assert updated("InPlaceOrRecreate", infeasible, waiting)[0] == "create pods/eviction a"
    late = running("c", "150m", **pending_resize("Deferred", minutes=6))
    assert updated("InPlaceOrRecreate", late, running("d", "150m")) == ["create pods/eviction c"]


def stamp(**ago: int) -> str:
    return (NOW - timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_who_needs_more_and_who_is_farthest_off_comes_first() -> None:
    pods = [running("less", "900m"), running("more", "50m"), running("most", "10m"), running("much less", "4")]
    assert updated("Recreate", *pods) == ["create pods/eviction most", "create pods/eviction more"]


def test_within_the_bounds_only_a_pod_that_ran_long_and_is_ten_per_cent_off_is_changed() -> None:
    young, near = (
        running("young", "150m", startTime=stamp(hours=11)),
        running("near", "105m", startTime=stamp(hours=13)),
    )
    assert updated("Recreate", young, near) == []
    old = running("old", "150m", startTime=stamp(hours=13))
    assert updated("Recreate", young, old) == ["create pods/eviction old"]


def test_who_soon_ran_out_of_memory_does_not_wait() -> None:
    ended = {"reason": "OOMKilled", "startedAt": stamp(minutes=9), "finishedAt": stamp(minutes=1)}
    died = {"containerStatuses": [{"name": "c", "lastState": {"terminated": ended}}]}
    assert updated("Recreate", running("a", "150m", **died), running("b", "150m")) == ["create pods/eviction a"]
    assert updated("Recreate", running("a", "100m", **died), running("b", "150m")) == []


def test_a_pod_that_waits_for_a_place_may_always_be_evicted() -> None:
    pods = [running("a", "10m"), running("b", "10m"), running("waits", "10m", phase="Pending")]
    assert updated("Recreate", *pods) == ["create pods/eviction waits"]


@pytest.mark.parametrize(
    ("requirement", "evicted"), [("TargetHigherThanRequests", "low"), ("TargetLowerThanRequests", "high")]
)
def test_only_a_change_that_the_policy_wants_is_made(requirement: str, evicted: str) -> None:
    pods = [running("low", "10m"), running("high", "1")]
    assert updated("Recreate", *pods, requirement=requirement) == [f"create pods/eviction {evicted}"]


def test_a_resize_that_goes_on_is_waited_for_an_hour() -> None:
    def resizing(minutes: int) -> dict:
        condition = {"type": "PodResizeInProgress", "status": "True", "lastTransitionTime": stamp(minutes=minutes)}
        return running("a", "10m", conditions=[condition])

    assert updated("InPlaceOrRecreate", resizing(59), running("b", "150m")) == []
    assert updated("InPlaceOrRecreate", resizing(61), running("b", "150m")) == ["create pods/eviction a"]


def test_requests_never_go_above_limits_that_stay() -> None:
    container = {"name": "c", "resources": {"requests": {"cpu": "10m"}, "limits": {"cpu": "50m"}}}
    changed = resources_for(vpa(controlledValues="RequestsOnly"), container, {"cpu": "100m"})
    assert changed == {"requests": {"cpu": "50m"}, "limits": {"cpu": "50m"}}


def test_without_pods_it_says_so() -> None:
    autoscaler = {"metadata": {"name": "v", "namespace": "default", "uid": "u"}, "spec": {}}
    (patch,) = decide(Snapshot(vpa=autoscaler, target=None, pods=[], histories={}), NOW)
    told = {"status": "True", "reason": "NoPodsMatched", "message": "No pods match this VPA object"}
    none, provided = patch.patch["status"]["conditions"]
    assert told.items() <= none.items()
    assert {**told, "type": "RecommendationProvided", "status": "False"}.items() <= provided.items()


def test_what_ran_out_of_memory_is_read_from_the_pod() -> None:
    ended = {"reason": "OOMKilled", "finishedAt": stamp(minutes=1)}
    pod = running("a", "10m", containerStatuses=[{"name": "c", "lastState": {"terminated": ended}}])
    memory = Memory("u")
    measure([], [pod], memory)
    assert not memory.histories["c"].memory.empty


def test_limits_keep_their_proportion_to_requests() -> None:
    container = running("a", "10m")["spec"]["containers"][0]
    changed = resources_for(vpa(), container, {"cpu": "100m"})
    assert changed == {"requests": {"cpu": "100m"}, "limits": {"cpu": "10"}}
    only = resources_for(vpa(controlledValues="RequestsOnly"), container, {"cpu": "100m"})
    assert only == {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}
