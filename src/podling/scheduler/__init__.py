"""Which node a pod goes to: filters, scores, preemption; pure."""
