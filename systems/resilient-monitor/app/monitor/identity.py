"""Which pod, which version, since when."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Identity:
    """Who answers. `started` is Unix time in seconds."""

    pod: str
    node: str
    version: str
    started: float = field(default_factory=time.time)

    @classmethod
    def from_environment(cls) -> Identity:
        """Reads POD_NAME and NODE_NAME (the downward API) and VERSION (the image)."""
        return cls(
            pod=os.environ.get("POD_NAME") or socket.gethostname(),
            node=os.environ.get("NODE_NAME", ""),
            version=os.environ.get("VERSION", "dev"),
        )

    def facts(self) -> dict[str, object]:
        return {
            "pod": self.pod,
            "node": self.node,
            "version": self.version,
            "uptime_seconds": round(time.time() - self.started, 1),
        }
