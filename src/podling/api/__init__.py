"""The machinery of a Kubernetes API server; it knows no kind."""
