"""Image references, layers, registries and the Dockerfile builder."""
