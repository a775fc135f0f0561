"""`python -m fuzz`: hostile requests, bounded in number, reproducible by seed.

The server must answer or close within five seconds, never with a 500; its log stays free of tracebacks, its process
the same, its memory bounded, and at the end kubectl still works against it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fuzz import ground as grounds
from fuzz import objects, schemas
from fuzz.case import Case, play, repeatable
from fuzz.cases import Maker
from fuzz.expected import is_expected
from fuzz.ground import Ground
from fuzz.wire import Hang, Wire

CEILING = 240.0
"""MiB that the daemon may hold at any time: itself, the history of the store, what requests in work need."""
FULL = 60_000
"""Cases after which all that it remembers is full (the history holds 10,000 changes or 16 MiB): then memory is flat."""
SETTLING = 65.0
"""Seconds after which the daemon has given back what it can: it does so once a minute."""
NOISE = 4.0
LEAK = 24.0
"""MiB, and bytes for each case, by which the daemon may then be larger than it was when it was full."""
LANES = 6
FRESH = 2000
"""Requests after which what they left is deleted."""
MAX_FAULTS = 20
EXAMPLES = 50_000
"""Hand-made cases for each example that schemathesis makes of an operation (some 700 operations)."""
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Run:
    """The hand-made fuzzer on one cluster.

    Several threads play cases at a time: most of the time of a conversation is waiting for silence.
    """

    def __init__(self, ground: Ground, seed: int, lanes: int = LANES) -> None:
        self._ground = ground
        self._wire = Wire(ground.place)
        self._seed = seed
        self._lanes = lanes
        self._lock = threading.Lock()
        self._log_size = len(ground.log())
        self.faults: list[str] = []
        self.statuses: Counter[str] = Counter()
        self.memory: list[float] = []
        """MiB of the daemon, each time when what some cases left had been deleted."""
        self._maker = self._prepared()

    def _prepared(self) -> Maker:
        crd = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            **objects.VALID["CustomResourceDefinition"],
        }
        self._wire.fetch("POST", CRD, json.dumps(crd).encode(), (("Content-Type", "application/json"),))
        deadline = time.monotonic() + 10
        while self._wire.fetch("GET", "/apis/fuzz.test/v1").status != 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        return Maker(self._seed, objects.discovered(self._json), grounds.POD)

    def _json(self, path: str) -> Any:
        return json.loads(self._wire.fetch("GET", path, b"", (("Accept", "application/json"),)).body)

    def close(self) -> None:
        self._wire.close()

    def play(self, numbers: range) -> None:
        for begin in range(0, len(numbers), FRESH):
            some = numbers[begin : begin + FRESH]
            waiting = iter(some)
            with ThreadPoolExecutor(self._lanes) as pool:
                for lane in [pool.submit(self._lane, waiting) for _ in range(self._lanes)]:
                    lane.result()
            if len(self.faults) >= MAX_FAULTS:
                return
            self._tidy()
            self.memory.append(self._ground.memory())

    def settled(self) -> float:
        """MiB of the daemon at rest."""
        time.sleep(SETTLING)
        return self._ground.memory()

    def _lane(self, waiting: Iterator[int]) -> None:
        wire = Wire(self._ground.place)
        for number in waiting:
            if len(self.faults) < MAX_FAULTS:
                self._one(self._maker.case(number), wire)
        wire.close()

    def _one(self, case: Case, wire: Wire) -> None:
        began = time.monotonic()
        try:
            play(case, wire, self._ground.place)
        except Hang as hang:
            self._once_more(case, wire, hang)
        except TimeoutError:
            self._fault(case, "no connection could be made")
        except Exception as error:  # noqa: BLE001  an answer that is no HTTP is a finding like any other
            wire.close()
            self._fault(case, f"not understood: {error!r}")
        if (took := time.monotonic() - began) > 2:
            print(f"case {case.number} ({case.family}) took {took:.1f} s", flush=True)
        for answer in case.answers:
            with self._lock:
                self.statuses[f"{case.family} {answer.status}"] += 1
            if not is_expected(answer.status, answer.body):
                self._fault(case, f"{answer.status} {answer.body[:300]!r}")
        self._read_log(case)

    def _once_more(self, case: Case, wire: Wire, hang: Hang) -> None:
        """What is late twice hangs. Once, a machine may be busy with others."""
        print(f"case {case.number} ({case.family}) was late: {hang}"[:300], flush=True)
        try:
            play(self._maker.case(case.number), wire, self._ground.place)
        except Hang as again:
            self._fault(case, f"hang: {again}")

    def _read_log(self, case: Case) -> None:
        """What the daemon complains of now comes from this case, or from one that ran beside it."""
        with self._lock:
            if os.path.getsize(self._ground.state / "logs" / "daemon.log") <= self._log_size:
                return
            log = self._ground.log()
            new, self._log_size = log[self._log_size :], len(log)
        if b"Traceback" in new:
            self._fault(case, f"the log says\n{new.decode(errors='replace')[-3000:]}")

    def _fault(self, case: Case, why: str) -> None:
        text = f"--- case {case.number} ({case.family}), seed {self._seed}: {why}\n{repeatable(case)[:3000]}"
        with self._lock:
            self.faults.append(text)
        print(text, flush=True)

    def _tidy(self) -> None:
        """What is left of earlier cases must not fill the store: memory is to show leaks alone."""
        for served in objects.discovered(self._json):
            if "delete" not in served.verbs or served.kind == "CustomResourceDefinition":
                continue
            for space in objects.SPACES if served.namespaced else ("",):
                for item in self._json(served.collection(space)).get("items") or []:
                    name = item["metadata"]["name"]
                    if name != grounds.POD and (served.namespaced or name in objects.NAMES):
                        self._wire.fetch("DELETE", f"{served.collection(space)}/{name}?gracePeriodSeconds=0")


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    options.add_argument("--requests", type=int, default=int(os.environ.get("FUZZ_REQUESTS") or 20_000))
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--case", type=int, help="only this one")
    options.add_argument("--lanes", type=int, default=LANES, help="cases at a time; 1 keeps their order")
    options.add_argument("--no-schemathesis", action="store_true")
    given = options.parse_args()
    numbers = range(given.requests) if given.case is None else range(given.case, given.case + 1)
    with grounds.ground() as ground:
        faults = fuzz(ground, numbers, given.seed, given.lanes)
        if given.case is None and not given.no_schemathesis:
            faults += schemas.faults(ground, max(1, given.requests // EXAMPLES), given.seed)
            faults += [f"in the daemon's log: {text}" for text in ground.complaints()[:3]]
    print(f"{len(faults)} faults")
    return 1 if faults else 0


def fuzz(ground: Ground, numbers: range, seed: int, lanes: int = LANES) -> list[str]:
    """All faults found."""
    began = time.monotonic()
    with contextlib.closing(Run(ground, seed, lanes)) as run:
        faults = _played(run, numbers)
    print(f"{len(numbers)} cases in {time.monotonic() - began:.0f} s", flush=True)
    print(", ".join(f"{k}: {n}" for k, n in sorted(run.statuses.items())))
    if run.memory:
        every = max(1, len(run.memory) // 10)
        print("MiB of the daemon on the way:", ", ".join(f"{held:.0f}" for held in run.memory[::every]))
        if max(run.memory) > CEILING:
            faults.append(f"the daemon held {max(run.memory):.0f} MiB")
    return faults + _at_the_end(ground)


def _played(run: Run, numbers: range) -> list[str]:
    """Plays the cases; looks for leaks where there are enough of them to tell."""
    rest = numbers[FULL:]
    run.play(numbers[:FULL])
    if not rest or len(run.faults) >= MAX_FAULTS:
        return run.faults
    before = run.settled()
    run.play(rest)
    after = run.settled()
    print(f"MiB of the daemon at rest after {FULL} cases: {before:.1f}; at the end: {after:.1f}", flush=True)
    if after - before > NOISE + LEAK * len(rest) / (1 << 20):
        run.faults.append(f"memory grew from {before:.1f} to {after:.1f} MiB in {len(rest)} cases")
    return run.faults


def _at_the_end(ground: Ground) -> list[str]:
    faults: list[str] = []
    if not ground.alive():
        faults.append("the daemon is not the one that began")
    faults += [f"in the daemon's log: {text}" for text in ground.complaints()[:3]]
    served = ground.kubectl.run("get", "pods", "-n", "kube-system", check=False)
    if served.returncode != 0:
        faults.append(f"kubectl: {served.stderr}")
    for fault in faults:
        print(fault, flush=True)
    with contextlib.suppress(OSError):
        Path(os.environ.get("FUZZ_LOG") or os.devnull).write_bytes(ground.log())
    return faults


if __name__ == "__main__":
    sys.exit(main())
