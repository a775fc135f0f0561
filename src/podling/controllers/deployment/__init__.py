"""Deployment: keep replica sets, one for each version of a pod template, and move pods from old to new.

- `rules` holds the arithmetic: how many pods each replica set may have during a rollout or a scaling;
- `plan` collects the changes to replica sets that one look decides;
- `progress` computes the status and its conditions;
- `controller` ties them together: observe, decide, act.
"""
