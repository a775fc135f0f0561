"""What podling's figures are on this machine, now.

    python -m bench                 everything, some ten minutes
    python -m bench api pods        only these parts
    python -m bench api --seconds 5 --rounds 5

Each part starts a cluster of its own in a temporary PODLING_HOME, and ends it. Reference values stand beside: those of
a real Kubernetes 1.36.2 (etcd, kube-apiserver, controller-manager, scheduler, kubelet, containerd) on a 2-core machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # its load and its persons are the tests' own

from bench import api, controllers, machine, pods, start, traffic

PARTS = {"start": start.run, "pods": pods.run, "traffic": traffic.run, "api": api.run, "controllers": controllers.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--seconds", type=float, default=2, help="of each round (api, traffic)")
    parser.add_argument("--rounds", type=int, default=3, help="whose median is printed")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    print(machine.describe())
    for name in arguments.parts or PARTS:
        print(f"\n## {name}    {machine.load()}")
        PARTS[name](machine.Settings(arguments.seconds, arguments.rounds))


if __name__ == "__main__":
    main()
