"""Hostile and broken requests against a real cluster, and a soak of its watches: `make fuzz`, `make soak`."""
