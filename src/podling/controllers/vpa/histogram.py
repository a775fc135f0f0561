"""A histogram with exponential buckets, in which a sample's weight halves with every half-life.

Instead of making all old weights smaller, new ones are made larger: a sample at time `t` weighs
`2 ** ((t - reference) / half_life)` times its own weight. When that grows too large, the reference moves on and all
weights are scaled down once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

_LARGEST_EXPONENT = 100.0
"""Half-lives between the reference and a sample: 2 ** 100 is far from the end of floats."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Bucket 0 is `[0, first)`; each is `1 + growth` times as wide as the one before; the last has no end."""

    first: float
    last: float
    """A value that belongs to the last bucket."""
    growth: float = 0.05

    @property
    def count(self) -> int:
        return math.ceil(self._position(self.last)) + 1

    def _position(self, value: float) -> float:
        return math.log(value * self.growth / self.first + 1) / math.log(1 + self.growth)

    def find(self, value: float) -> int:
        if value < self.first:
            return 0
        return min(math.floor(self._position(value)), self.count - 1)

    def start(self, bucket: int) -> float:
        return self.first * ((1 + self.growth) ** bucket - 1) / self.growth


CPU = Buckets(first=0.01, last=1000.0)
"""In cores."""
MEMORY = Buckets(first=1e7, last=1e12)
"""In bytes."""


@dataclass(slots=True)
class Histogram:
    """Times are Unix seconds."""

    buckets: Buckets
    half_life: float = 24 * 3600.0
    epsilon: float = 0.0001
    """A bucket that weighs less is empty."""
    reference: float = 0.0
    weights: dict[int, float] = field(default_factory=dict[int, float])

    def add(self, value: float, weight: float, at: float) -> None:
        self._change(value, weight * self._factor(at))

    def subtract(self, value: float, weight: float, at: float) -> None:
        """Takes back what was added with the same arguments."""
        self._change(value, -weight * self._factor(at))

    def _change(self, value: float, weight: float) -> None:
        bucket = self.buckets.find(value)
        new = self.weights.get(bucket, 0.0) + weight
        if new > 0:
            self.weights[bucket] = new
        else:
            self.weights.pop(bucket, None)

    def _factor(self, at: float) -> float:
        if not self.weights:
            self.reference = at
        elif at > self.reference + self.half_life * _LARGEST_EXPONENT:
            self._shift(at)
        return 2.0 ** ((at - self.reference) / self.half_life)

    def _shift(self, reference: float) -> None:
        scale = 2.0 ** ((self.reference - reference) / self.half_life)
        scaled = {bucket: weight * scale for bucket, weight in self.weights.items()}
        self.weights = {bucket: weight for bucket, weight in scaled.items() if weight >= self.epsilon}
        self.reference = reference

    @property
    def empty(self) -> bool:
        return all(weight < self.epsilon for weight in self.weights.values())

    def percentile(self, share: float) -> float:
        """The end of the bucket up to which `share` of all weight lies; 0 where there is nothing."""
        if self.empty:
            return 0.0
        threshold, sum_so_far, bucket = share * sum(self.weights.values()), 0.0, 0
        for bucket in sorted(self.weights):
            sum_so_far += self.weights[bucket]
            if sum_so_far >= threshold:
                break
        return self.buckets.start(min(bucket + 1, self.buckets.count - 1))

    # Between two lives of the daemon

    def checkpoint(self) -> Mapping[str, object]:
        """As `HistogramCheckpoint` keeps it, the time aside: weights in 10000ths of the largest."""
        largest, total = max(self.weights.values(), default=0.0), sum(self.weights.values())
        shares = {str(b): round(w / largest * 10000) for b, w in sorted(self.weights.items())}
        return {"bucketWeights": {b: w for b, w in shares.items() if w > 0}, "totalWeight": total}

    def restore(self, weights: Mapping[str, float], total: float, reference: float) -> None:
        """The opposite of `checkpoint`."""
        share = total / (sum(weights.values()) or 1)
        self.weights = {int(bucket): weight * share for bucket, weight in weights.items()}
        self.reference = reference
