"""Writes per second of the store, by durability and number of concurrent writers.

    python bench/bench_store.py [--seconds 2] [--directory DIR]

Each writer creates 3 KB objects one after the other and waits until each is on the disk. The directory should lie on
the disk that would hold the cluster (the default is the working directory), not on a tmpfs.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import cast

import uvloop

from podling.store.disk import Durability
from podling.store.store import Store
from podling.store.types import Key, Object

_PADDING = "x" * 2800


async def _writer(store: Store, name: str, end: float) -> list[float]:
    latencies: list[float] = []
    while (start := time.perf_counter()) < end:
        key = Key("configmaps", "default", f"{name}-{len(latencies)}")
        metadata = {"name": key.name, "namespace": key.namespace}
        obj: Object = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": {"k": _PADDING}}
        await store.create(key, obj)
        latencies.append(time.perf_counter() - start)
    return latencies


async def _measure(directory: str, durability: Durability, writers: int, seconds: float) -> str:
    with tempfile.TemporaryDirectory(dir=directory) as place:
        store = Store(Path(place) / "state.db", durability=durability)
        end = time.perf_counter() + seconds
        all_latencies = await asyncio.gather(*(_writer(store, f"w{i}", end) for i in range(writers)))
        store.close()
    latencies = sorted(latency for of_writer in all_latencies for latency in of_writer)
    median, tail = latencies[len(latencies) // 2] * 1e3, latencies[int(len(latencies) * 0.99)] * 1e3
    rate = len(latencies) / seconds
    return f"{durability:7} {writers:4} writers  {rate:8.0f} writes/s  p50 {median:6.2f} ms  p99 {tail:6.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--directory", default=".")
    arguments = parser.parse_args()
    for durability in ("full", "normal"):
        for writers in (1, 16, 128):
            print(uvloop.run(_measure(arguments.directory, cast(Durability, durability), writers, arguments.seconds)))


if __name__ == "__main__":
    main()
