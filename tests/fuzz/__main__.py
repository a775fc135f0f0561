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
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fuzz import ground as grounds
from fuzz import objects, schemas
from fuzz.cases import Case, Maker, play, repeatable
from fuzz.ground import Ground
from fuzz.wire import Answer, Hang, Wire

WARM_UP = 0.25
"""The part of the requests after which memory counts: caches and compiled schemas have filled by then."""
GROWTH = 96.0
"""MiB that the daemon may grow after that; the store itself stays small, for names are few."""
FRESH = 2000
"""Requests after which what they left is deleted."""
MAX_FAULTS = 20
EXAMPLES = 10_000
"""Hand-made cases for each example that schemathesis makes of an operation (some 500 operations)."""
OWN = (
    *(b"resourceVersion should not be set on objects to be created", b"failed to create typed patch object"),
    *(b"failed to convert new typed object", b"strconv.ParseUint: parsing", b"target.name: Required", b"target.kind: "),
    *(b"unknown patch type: ", b"does not contain declared merge key", b"doesn't match $setElementOrder"),
)
"""What Kubernetes itself answers with 500: plain errors of its registry that nobody gave a status."""
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Run:
    """The hand-made fuzzer on one cluster."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self._ground = ground
        self._wire = Wire(ground.place)
        self._seed = seed
        self._log_size = len(ground.log())
        self.faults: list[str] = []
        self.statuses: Counter[str] = Counter()
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

    def play(self, numbers: range) -> None:
        for number in numbers:
            self._one(self._maker.case(number))
            if len(self.faults) >= MAX_FAULTS:
                break
            if number % FRESH == FRESH - 1:
                self._tidy()

    def _one(self, case: Case) -> None:
        began = time.monotonic()
        try:
            play(case, self._wire, self._ground.place)
        except Hang as hang:
            self._fault(case, f"hang: {hang}")
        except TimeoutError:
            self._fault(case, "no connection could be made")
        except Exception as error:  # noqa: BLE001  an answer that is no HTTP is a finding like any other
            self._wire.close()
            self._fault(case, f"not understood: {error!r}")
        if (took := time.monotonic() - began) > 2:
            print(f"case {case.number} ({case.family}) took {took:.1f} s", flush=True)
        for answer in case.answers:
            self.statuses[f"{case.family} {answer.status}"] += 1
            if not _expected(answer):
                self._fault(case, f"{answer.status} {answer.body[:300]!r}")
        if os.path.getsize(self._ground.state / "logs" / "daemon.log") > self._log_size:
            self._read_log(case)

    def _read_log(self, case: Case) -> None:
        log = self._ground.log()
        new, self._log_size = log[self._log_size :], len(log)
        if b"Traceback" in new:
            self._fault(case, f"the log says\n{new.decode(errors='replace')[-3000:]}")

    def _fault(self, case: Case, why: str) -> None:
        text = f"--- case {case.number} ({case.family}), seed {self._seed}: {why}\n{repeatable(case)[:3000]}"
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


def _expected(answer: Answer) -> bool:
    """Whether a real API server might say so too. A 500 without a body answers a HEAD; only the log tells of it."""
    if answer.status < 500 or answer.status in (501, 503, 504):
        return True
    return answer.status == 500 and (not answer.body or any(text in answer.body for text in OWN))


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    options.add_argument("--requests", type=int, default=int(os.environ.get("FUZZ_REQUESTS") or 20_000))
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--case", type=int, help="only this one")
    options.add_argument("--no-schemathesis", action="store_true")
    given = options.parse_args()
    numbers = range(given.requests) if given.case is None else range(given.case, given.case + 1)
    with grounds.ground() as ground:
        faults = fuzz(ground, numbers, given.seed)
        if given.case is None and not given.no_schemathesis:
            faults += schemas.faults(ground, max(1, given.requests // EXAMPLES), given.seed)
            faults += [f"in the daemon's log: {text}" for text in ground.complaints()[:3]]
    print(f"{len(faults)} faults")
    return 1 if faults else 0


def fuzz(ground: Ground, numbers: range, seed: int) -> list[str]:
    """All faults found."""
    run = Run(ground, seed)
    warm = numbers[: int(len(numbers) * WARM_UP)]
    began = time.monotonic()
    run.play(warm)
    before = ground.memory()
    if len(run.faults) < MAX_FAULTS:
        run.play(numbers[len(warm) :])
    seconds = time.monotonic() - began
    after = ground.memory() if ground.alive() else 0.0
    print(f"{len(numbers)} cases in {seconds:.0f} s; memory after warm-up {before:.0f} MiB, at the end {after:.0f} MiB")
    print(", ".join(f"{k}: {n}" for k, n in sorted(run.statuses.items())))
    return run.faults + _at_the_end(ground, before, after)


def _at_the_end(ground: Ground, before: float, after: float) -> list[str]:
    faults: list[str] = []
    if not ground.alive():
        faults.append("the daemon is not the one that began")
    if after - before > GROWTH:
        faults.append(f"memory grew from {before:.0f} to {after:.0f} MiB")
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
