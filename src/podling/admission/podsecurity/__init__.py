"""PodSecurity: the Pod Security Standards, enforced and warned about as a namespace's labels say.

`checks` holds the controls of the standards, `levels` which of them make up a level in a version, `plugin` the
admission step (k8s.io/pod-security-admission).
"""
