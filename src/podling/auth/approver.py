"""Which requests for certificates approve themselves: those of kubelets for their client certificates, if RBAC says so.

(kube-controller-manager's `csrapproving`; the rights are virtual subresources of `certificatesigningrequests`)
"""

from __future__ import annotations

from base64 import b64decode

from cryptography import x509

from podling.api import meta
from podling.api.requests import Attributes, Authorize
from podling.api.resources import User
from podling.auth.signer import KUBELET_CLIENT, common_name, kubelet_client_rule
from podling.store.types import Object

_APPROVING = "Auto approving {}kubelet client certificate after SubjectAccessReview."


class KubeletApproval:
    """See `podling.controllers.csrapproving.Approve`."""

    def __init__(self, authorize: Authorize) -> None:
        self._authorize = authorize

    def __call__(self, request: Object) -> str:
        spec = meta.spec(request)
        asked = x509.load_pem_x509_csr(b64decode(spec["request"]))
        if spec["signerName"] != KUBELET_CLIENT or kubelet_client_rule(asked, spec["usages"]):
            return ""
        own = common_name(asked) == spec.get("username", "")
        if own and self._may(spec, "selfnodeclient"):
            return _APPROVING.format("self ")
        return _APPROVING.format("") if self._may(spec, "nodeclient") else ""

    def _may(self, spec: Object, subresource: str) -> bool:
        extra = {key: tuple(values) for key, values in meta.part(spec, "extra").items()}
        user = User(spec.get("username", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)
        group = "certificates.k8s.io"
        asked = Attributes("create", "", group, "*", "certificatesigningrequests", subresource)
        return self._authorize(user, asked).allowed
