"""HorizontalPodAutoscaler: as many replicas as the metrics ask for.

- `metrics`: what the autoscaler asks of a metrics pipeline (a Protocol);
- `replicas`: how many replicas a metric asks for: pure;
- `behavior`: how fast that may change: stabilization windows and policies: pure;
- `controller`: observe, decide, act.

Source: "Horizontal Pod Autoscaling" (algorithm details, configurable scaling behavior).
"""
