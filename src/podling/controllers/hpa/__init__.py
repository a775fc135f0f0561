"""HorizontalPodAutoscaler: as many replicas as the metrics ask for.

- `metrics`: what the autoscaler asks of a metrics pipeline (a Protocol);
- `scale`: the target, through its scale subresource;
- `replicas`: how many replicas a metric asks for: pure;
- `proposals`: the same for each kind of metric, in its words: pure;
- `behavior`: how fast that may change: stabilization windows and policies: pure;
- `controller`: observe, decide, act.

Source: "Horizontal Pod Autoscaling" (algorithm details, configurable scaling behavior).
"""
