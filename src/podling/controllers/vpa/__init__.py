"""VerticalPodAutoscaler (`autoscaling.k8s.io/v1`): how much a container should request.

- `histogram`: what was used, old samples counting less and less: pure;
- `usage`: the history of one container: pure;
- `recommendation`: target and bounds from a history, within what the policy allows: pure;
- `updater`: which running pods are changed, in place or by eviction: pure;
- `controller`: once a minute measures, recommends and updates;
- `checkpoints`: histories as objects, so that they outlive the daemon;
- `admission`: new pods request what is recommended;
- `definition`: the CustomResourceDefinitions.

Source: the documentation of the Vertical Pod Autoscaler's recommender ("components", "flags", "FAQ").
"""
