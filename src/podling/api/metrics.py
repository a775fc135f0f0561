"""The server's own counters, as Prometheus reads them: requests and their durations under Kubernetes' metric names."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

_BUCKETS = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5),
    *(2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0),
)
_REQUESTS = "apiserver_request_total"
_DURATIONS = "apiserver_request_duration_seconds"

Label = tuple[str, str, str, str, str, str]
"""verb, group, version, resource, subresource, scope (`resource`, `namespace`, `cluster`; `""` of what is none)."""

_VERBS = {
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "apply": "APPLY",
    "get": "GET",
    "list": "LIST",
    "watch": "WATCH",
    "delete": "DELETE",
    "deletecollection": "DELETECOLLECTION",
}
"""Of a metric: where it has a method, that (`metrics.cleanVerb`)."""
_LABELS = ("group", "version", "resource", "subresource", "scope")


class Metrics:
    """Counts requests, and how long they took."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Label, int], int] = {}
        self._durations: dict[Label, _Histogram] = {}

    def observe(self, label: Label, status: int, seconds: float) -> None:
        key = (label, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        histogram = self._durations.get(label)
        if histogram is None:
            histogram = self._durations[label] = _Histogram()
        histogram.observe(seconds)

    def text(self) -> str:
        """The exposition format, version 0.0.4."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"# HELP {_REQUESTS} Counter of apiserver requests by verb, group, version, resource and code."
        yield f"# TYPE {_REQUESTS} counter"
        for (label, status), count in self._counts.items():
            yield f'{_REQUESTS}{{code="{status}",{_labels(label)}}} {count}'
        yield f"# HELP {_DURATIONS} Response latency in seconds by verb, group, version and resource."
        yield f"# TYPE {_DURATIONS} histogram"
        for label, histogram in self._durations.items():
            yield from histogram.lines(_labels(label))


class _Histogram:
    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(_BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(_BUCKETS, seconds)] += 1
        self._sum += seconds

    def lines(self, labels: str) -> Iterator[str]:
        total = 0
        for limit, count in zip((*_BUCKETS, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{_DURATIONS}_bucket{{{labels},le="{limit}"}} {total}'
        yield f"{_DURATIONS}_sum{{{labels}}} {self._sum:.6f}"
        yield f"{_DURATIONS}_count{{{labels}}} {total}"


def _labels(label: Label) -> str:
    verb, *rest = label
    pairs = [("component", "apiserver"), ("dry_run", ""), *zip(_LABELS, rest, strict=True)]
    pairs.append(("verb", _VERBS.get(verb, verb.upper())))
    return ",".join(f'{name}="{value}"' for name, value in pairs)
