"""What users add to the API at run time: custom resources, admission webhooks and policies, other API servers.

Kinds that describe such additions (`CustomResourceDefinition`, `ValidatingWebhookConfiguration`, ...) are declared in
`podling.kinds`; here is what they set in motion.
"""
