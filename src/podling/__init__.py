"""podling: ordinary Kubernetes manifests on one machine."""

__version__ = "0.1.0"

KUBERNETES_VERSION = "v1.36.2"
"""The Kubernetes whose behaviour is reproduced, as `/version` and the node report it."""
