"""metrics.k8s.io: what pods and nodes use, measured by the nodes themselves; for `kubectl top` and for autoscaling."""
