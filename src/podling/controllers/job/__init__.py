"""Job: run pods until enough of them have succeeded, counting each exactly once.

- `indexes`: the compact text form of index sets (`0,2-4`);
- `policies`: what a failed or succeeded pod means (`podFailurePolicy`, `successPolicy`, back-off);
- `tracking`: counting pods by means of their finalizer, so that none is lost or counted twice;
- `controller`: observe, decide, act.
"""
