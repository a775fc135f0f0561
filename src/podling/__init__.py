"""podling: ordinary Kubernetes manifests on one machine."""

__version__ = "0.1.0"
