"""The Common Expression Language as Kubernetes speaks it: for rules of custom resources and for admission policies.

The libraries that exist evaluate, but do not check types against a schema, do not estimate costs, and know none of
Kubernetes' functions; what users see of CEL is mostly the words of the checker. So this is our own: `syntax` parses,
`compiler` checks and makes closures, `library` holds the functions, `types` the types. Nothing here is imported
before the first rule is met.
"""
