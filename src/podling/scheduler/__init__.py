"""Which node a pod goes to.

- `framework`: what a scheduling decision is made of: nodes with their pods, rejections, the answer;
- `filters`: on which nodes a pod may run; `scores`: where it should;
- `preemption`: which pods give way to one of higher priority;
- `selection`: filters, scores and preemption put together: one pure function from a snapshot to an answer;
- `queue`: in which order pods are tried, and when again;
- `scheduler`: the loop that does it.
"""
