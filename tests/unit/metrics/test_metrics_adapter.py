"""Pods' own metrics: read from their expositions, followed only while somebody asks, answered by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api.selectors import parse_label_selector
from podling.metrics import scraping
from podling.metrics.adapter import MOST, PERIOD, REMEMBERED, WINDOW, Adapter, Interest
from podling.metrics.exposition import parse
from podling.metrics.scraping import LARGEST, ScrapeFailed, Target, scrape, target_of
from podling.store.types import Object

EXPOSITION = r"""
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{code="200",path="/a \"b\"\\,}"} 7 1700000000000
http_requests_total{code="500"} 1e1
# TYPE latency_seconds histogram
latency_seconds_bucket{le="+Inf"} 4
latency_seconds_sum 2.5
latency_seconds_count 4
# TYPE queue gauge
queue 3 # {trace="1"} 0.5
queue_length 9
strange NaN
broken{ 1
broken{a=b} 1
broken
untyped_total 5
"""


def of(name: str, text: str = EXPOSITION) -> list[tuple[dict[str, str], float, bool]]:
    return [(dict(s.labels), s.value, s.is_counter) for s in parse(text, [name]).series]


# Expositions


def test_labels_may_hold_anything() -> None:
    first, second = of("http_requests_total")
    assert first == ({"code": "200", "path": '/a "b"\\,}'}, 7.0, True)
    assert second == ({"code": "500"}, 10.0, True)


def test_a_name_is_not_the_beginning_of_another() -> None:
    assert of("queue") == [({}, 3.0, False)]


@pytest.mark.parametrize(
    ("name", "is_counter"),
    [
        ("latency_seconds_bucket", True),
        ("latency_seconds_sum", True),
        ("latency_seconds_count", True),
        ("queue_length", False),
        ("untyped_total", True),
    ],
)
def test_what_only_grows_is_known_by_type_or_name(name: str, is_counter: bool) -> None:
    assert [counter for _, _, counter in of(name)] == [is_counter]


@pytest.mark.parametrize("name", ["strange", "broken", "absent"])
def test_what_is_no_number_or_no_sample_is_left_out(name: str) -> None:
    assert of(name) == []


def test_a_counter_that_counts_nothing_yet_is_declared() -> None:
    assert "jobs_total" in parse("# TYPE jobs counter\n", ["jobs_total"]).counters


@given(st.text(alphabet='a{}="\\, \n#\t1e+-NTYPE_', max_size=200))
def test_no_exposition_is_too_broken_to_be_read(text: str) -> None:
    parse(text, ["a", "a_total"])


# Pods


def pod(name: str = "web-1", app: str = "web", uid: str = "", **annotations: str) -> Object:
    given = {"scrape": "true", "port": "8000", **annotations}
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid or name,
            "labels": {"app": app},
            "annotations": {f"prometheus.io/{key}": value for key, value in given.items()},
        },
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 9000}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    }


@pytest.mark.parametrize(
    ("annotations", "target"),
    [
        ({}, Target("10.0.0.1", 8000, "/metrics", False)),
        ({"path": "stats", "scheme": "https"}, Target("10.0.0.1", 8000, "/stats", True)),
        ({"port": ""}, Target("10.0.0.1", 9000, "/metrics", False)),
        ({"port": "http"}, None),
        ({"port": "70000"}, None),
        ({"path": "/a b"}, None),
        ({"path": "/a\r\nX: y"}, None),
        ({"scrape": "false"}, None),
    ],
)
def test_annotations_say_where_a_pod_wants_to_be_asked(annotations: dict[str, str], target: Target | None) -> None:
    assert target_of(pod(**annotations)) == target


async def scraped(answer: bytes | None) -> str:
    """By a server that answers so, or never."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is not None:
            writer.write(answer)
        else:
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        return await scrape(Target("127.0.0.1", port, "/metrics", tls=False))
    finally:
        await gone.wait()
        server.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\nqueue 3\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nqueue 3\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nqueue\r\n3\r\n 3\n\r\n0\r\n\r\n",
    ],
)
def test_an_answer_is_read_however_it_comes(answer: bytes) -> None:
    assert asyncio.run(scraped(answer)) == "queue 3\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"queue 3\n" * (LARGEST // 8 + 1),
    ],
)
def test_what_is_no_exposition_is_refused(answer: bytes) -> None:
    with pytest.raises(ScrapeFailed):
        asyncio.run(scraped(answer))


def test_a_pod_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraping, "PATIENCE", 0.05)
    with pytest.raises(ScrapeFailed, match="no answer in time"):
        asyncio.run(scraped(None))


# The adapter


class Cluster:
    """Pods, what they say, and a clock."""

    def __init__(self, *pods: Object) -> None:
        self.pods = list(pods)
        self.says: str | None = ""
        self.time = 1_700_000_000.0
        self.scrapes = 0

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return next((p for p in self.pods if p["metadata"]["name"] == name), None)

    def list(self, resource: str, namespace: str | None = None) -> list[Object]:
        return self.pods

    async def scrape(self, _target: Target) -> str:
        self.scrapes += 1
        if self.says is None:
            raise ScrapeFailed("refused")
        return self.says


def story(cluster: Cluster, play: Callable[[Adapter], Awaitable[None]]) -> None:
    async def run() -> None:
        adapter = Adapter(cluster, lambda: cluster.time, cluster.scrape)
        try:
            await play(adapter)
        finally:
            await adapter.close()

    asyncio.run(run())


async def total(adapter: Adapter, metric: str, selector: str = "app=web") -> float | None:
    values = await adapter.ask(Interest("default", parse_label_selector(selector), metric))
    return sum(value.value for value in values) if values else None


async def later(cluster: Cluster, adapter: Adapter, says: str | None, seconds: float = PERIOD) -> None:
    """The next round of scrapes."""
    cluster.says = says
    cluster.time += seconds
    await adapter.round()


def test_a_gauge_answers_at_once() -> None:
    cluster = Cluster(pod("web-1"), pod("web-2"), pod("db-1", app="db"))
    cluster.says = "queue 3"

    async def play(adapter: Adapter) -> None:
        assert await total(adapter, "queue") == 6
        assert await total(adapter, "queue", "app=db") == 3
        assert await total(adapter, "nothing") is None

    story(cluster, play)


@pytest.mark.parametrize("metric", ["http_requests_per_second", "http_requests", "http_requests_total"])
def test_a_counter_answers_as_its_rate(metric: str) -> None:
    cluster = Cluster(pod())
    cluster.says = 'http_requests_total{code="200"} 1000\nhttp_requests_total{code="500"} 10'

    async def play(adapter: Adapter) -> None:
        assert await total(adapter, metric) is None
        await later(cluster, adapter, 'http_requests_total{code="200"} 1050\nhttp_requests_total{code="500"} 10')
        assert await total(adapter, metric) == 10

    story(cluster, play)


def test_a_counter_that_began_anew_never_fell() -> None:
    cluster = Cluster(pod())
    cluster.says = "a_total 1000"

    async def play(adapter: Adapter) -> None:
        await total(adapter, "a_per_second")
        await later(cluster, adapter, "a_total 1010")
        await later(cluster, adapter, "a_total 20")
        assert await total(adapter, "a_per_second") == 3

    story(cluster, play)


@pytest.mark.parametrize("metric", ["jobs", "jobs_total", "jobs_per_second"])
def test_a_counter_of_openmetrics_is_declared_by_its_family(metric: str) -> None:
    cluster = Cluster(pod())
    cluster.says = "# TYPE jobs counter\njobs_total 1"

    async def play(adapter: Adapter) -> None:
        await total(adapter, metric)
        await later(cluster, adapter, "# TYPE jobs counter\njobs_total 11")
        assert await total(adapter, metric) == 2

    story(cluster, play)


def test_a_flood_of_questions_is_bounded() -> None:
    cluster = Cluster(pod())

    async def play(adapter: Adapter) -> None:
        for number in range(MOST + 50):
            await total(adapter, f"m{number}")
        assert len(adapter.metrics()) == MOST
        assert adapter.metrics()[-1].metric == f"m{MOST + 49}"

    story(cluster, play)


def test_a_series_that_appears_began_at_nothing() -> None:
    cluster = Cluster(pod())
    cluster.says = "# TYPE a_total counter"

    async def play(adapter: Adapter) -> None:
        assert await total(adapter, "a_per_second") == 0
        await later(cluster, adapter, "# TYPE a_total counter\na_total 50")
        assert await total(adapter, "a_per_second") == 10

    story(cluster, play)


def test_a_rate_is_of_the_last_window_only() -> None:
    cluster = Cluster(pod())
    cluster.says = "a_total 0"

    async def play(adapter: Adapter) -> None:
        for count in range(20):
            await total(adapter, "a_per_second")
            await later(cluster, adapter, f"a_total {min(count, 10) * 50}")
        assert await total(adapter, "a_per_second") == 0

    assert WINDOW < 10 * PERIOD
    story(cluster, play)


def test_a_pod_that_does_not_answer_is_soon_unknown() -> None:
    cluster = Cluster(pod())
    cluster.says = "queue 3"

    async def play(adapter: Adapter) -> None:
        assert await total(adapter, "queue") == 3
        await later(cluster, adapter, None, seconds=4 * PERIOD)
        assert await total(adapter, "queue") is None

    story(cluster, play)


def test_nobody_is_asked_when_nobody_asks() -> None:
    cluster = Cluster(pod())

    async def play(adapter: Adapter) -> None:
        await total(adapter, "queue")
        await later(cluster, adapter, "queue 3")
        before = cluster.scrapes
        await later(cluster, adapter, "queue 3", seconds=REMEMBERED)
        assert (cluster.scrapes, adapter.metrics()) == (before, ())

    story(cluster, play)


def test_a_new_pod_is_followed_without_anyone_asking_again() -> None:
    cluster = Cluster(pod())
    cluster.says = "a_total 0"

    async def play(adapter: Adapter) -> None:
        await total(adapter, "a_per_second")
        cluster.pods.append(pod("web-2"))
        await later(cluster, adapter, "a_total 10")
        await later(cluster, adapter, "a_total 20")
        assert await total(adapter, "a_per_second") == 4

    story(cluster, play)
