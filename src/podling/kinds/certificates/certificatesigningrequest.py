"""CertificateSigningRequest: somebody asks a signer for a certificate, and somebody approves or denies it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, required, too_long
from podling.api.gotext import quoted
from podling.api.meta import timestamp
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import NONE, age, age_column, doc, duration, name, name_column
from podling.kinds.validation import fields, names, pem
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import changed, common, whole
from podling.store.types import Object

_PEM: Final = b"-----BEGIN CERTIFICATE REQUEST-----"
_FINAL: Final = ("Approved", "Denied", "Failed")
_LEAST_SECONDS: Final = 600
_LEGACY_SIGNER: Final = "kubernetes.io/legacy-unknown"
_USAGES: Final = (
    *("any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment"),
    *("decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel"),
    *("ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime"),
    *("server auth", "signing", "timestamping"),
)


def prepare(write: Write) -> None:
    """The spec says who asked, and never changes; conditions carry their times."""
    if write.old is None:
        spec: Object = write.new.setdefault("spec", {})
        who = {
            "username": write.user.name,
            "uid": write.user.uid,
            "groups": list(write.user.groups),
            "extra": {k: list(v) for k, v in write.user.extra.items()},
        }
        for key, value in who.items():
            spec.pop(key, None)
            if value:
                spec[key] = value
        write.new["status"] = {}
        return
    write.new["spec"] = part(write.old, "spec")
    if write.subresource not in ("approval", "status"):
        keep_status(write)
        return
    status, before = write.new.setdefault("status", {}), part(write.old, "status")
    if write.subresource == "approval":
        status = {**before, "conditions": entries(status, "conditions")}
        if not status["conditions"]:
            del status["conditions"]
        write.new["status"] = status
    else:
        for kind in ("Approved", "Denied"):
            _keep(kind, entries(status, "conditions"), entries(before, "conditions"))
    _stamp(entries(status, "conditions"), entries(before, "conditions"), write.now)


def _keep(kind: str, conditions: list[Object], before: list[Object]) -> None:
    """An answer that was given stays as it was, unless it is added or taken away: that is refused."""
    held = [c for c in before if text(c, "type") == kind]
    places = [i for i, c in enumerate(conditions) if text(c, "type") == kind]
    if len(held) == len(places):
        for place, condition in zip(places, held, strict=True):
            conditions[place] = {**condition}


def _stamp(conditions: list[Object], before: list[Object], now: datetime) -> None:
    held = {(text(c, "type"), text(c, "status")): c for c in before}
    for condition in conditions:
        was = held.get((text(condition, "type"), text(condition, "status")), {})
        if not condition.get("lastTransitionTime"):
            condition["lastTransitionTime"] = was.get("lastTransitionTime") or timestamp(now)
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = was.get("lastUpdateTime") or timestamp(now)


def validate(write: Write) -> list[FieldError]:
    status = part(write.new, "status")
    before = part(write.old or {}, "status")
    errors = common(write) + whole(write, names.segment_name) + _spec(part(write.new, "spec"))
    errors += _conditions(entries(status, "conditions"), entries(before, "conditions"))
    certificate, held = text(status, "certificate"), text(before, "certificate")
    if certificate != held or write.old is None:
        errors += _certificate(certificate)
    if write.old is None:
        return errors
    errors += _kept_conditions(status, before, approving=write.subresource == "approval")
    if certificate != held and write.subresource != "status":
        errors.append(forbidden_field("status.certificate", "updates may not set certificate content"))
    elif certificate != held and held:
        errors.append(forbidden_field("status.certificate", "updates may not modify existing certificate content"))
    return errors + changed(write)


def _spec(spec: Object) -> list[FieldError]:
    errors = _request(text(spec, "request"))
    usages = entries(spec, "usages")
    if not usages:
        errors.append(required("spec.usages"))
    for at, usage in each("spec.usages", usages):
        errors += fields.one_of(at, usage, _USAGES)
    errors += [duplicate(f"spec.usages[{i}]", usage) for i, usage in enumerate(usages) if usage in usages[:i]]
    errors += signer_name(text(spec, "signerName"), "spec.signerName")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < _LEAST_SECONDS:
        detail = f"may not specify a duration less than {_LEAST_SECONDS} seconds (10 minutes)"
        errors.append(invalid_value("spec.expirationSeconds", seconds, detail))
    return errors


def _request(encoded: str) -> list[FieldError]:
    try:
        content = base64.b64decode(encoded)
    except binascii.Error:
        content = b""
    if _PEM not in content:
        return [invalid_value("spec.request", encoded or None, "PEM block type must be CERTIFICATE REQUEST")]
    try:
        request = x509.load_pem_x509_csr(content)
    except ValueError as error:
        return [invalid_value("spec.request", encoded, str(error))]
    if request.is_signature_valid:
        return []
    rsa_key = isinstance(request.public_key(), rsa.RSAPublicKey)
    detail = "crypto/rsa: verification error" if rsa_key else "x509: ECDSA verification failure"
    return [invalid_value("spec.request", encoded, detail)]


def signer_name(signer: str, path: str) -> list[FieldError]:
    """`example.com/name`: whom a certificate is asked of."""
    if not signer:
        return [required(path)]
    if signer == _LEGACY_SIGNER:
        return [invalid_value(path, signer, "the legacy signerName is not allowed via this API version")]
    domain, slash, rest = signer.partition("/")
    if not slash or "/" in rest:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid_value(path, signer, detail)]
    errors = [too_long(path, names.SUBDOMAIN_MAX)] if len(domain) > names.SUBDOMAIN_MAX else []
    labels = domain.split(".")
    errors += _first_wrong(labels, names.dns1123_label, domain, path)
    if len(labels) < 2:
        errors.append(invalid_value(path, domain, "should be a domain with at least two segments separated by dots"))
    errors += _first_wrong(rest.split("."), names.dns1123_subdomain, rest, path)
    longest = 2 * names.SUBDOMAIN_MAX + names.LABEL_MAX + 2
    return errors + ([too_long(path, longest)] if len(signer) > longest else [])


def _first_wrong(labels: list[str], rule: Callable[[str], list[str]], shown: str, path: str) -> list[FieldError]:
    wrong = next((label for label in labels if rule(label)), None)
    if wrong is None:
        return []
    return [invalid_value(path, shown, f"validating label {quoted(wrong)}: {says}") for says in rule(wrong)]


def _conditions(conditions: list[Object], held: list[Object]) -> list[FieldError]:
    """What is wrong already may stay as it is."""
    path = "status.conditions"
    before = [text(c, "type") for c in held]
    errors: list[FieldError] = []
    seen: list[str] = []
    for at, condition in each(path, conditions):
        kind, status = text(condition, "type"), text(condition, "status")
        if not kind and "" not in before:
            errors.append(required(f"{at}.type"))
        valid = ("True",) if kind in _FINAL else ("False", "True", "Unknown")
        errors += fields.one_of_required(f"{at}.status", status, valid)
        other = {"Approved": "Denied", "Denied": "Approved"}.get(kind)
        if other in seen and not {"Approved", "Denied"} <= set(before):
            errors.append(invalid_value(path, kind, "Approved and Denied conditions are mutually exclusive"))
        if kind in seen and len(before) == len(set(before)):
            errors.append(duplicate(f"{at}.type", kind))
        seen.append(kind)
    return errors


def _certificate(encoded: str) -> list[FieldError]:
    detail = _certificate_problem(encoded) if encoded else ""
    return [invalid_value("status.certificate", "<certificate data>", detail)] if detail else []


def _certificate_problem(encoded: str) -> str:
    """What is wrong with the first bad block; what is no block at all is passed over."""
    try:
        found = [*pem.blocks(base64.b64decode(encoded))]
    except ValueError:
        found = []
    for block in found:
        if block.kind != "CERTIFICATE":
            return f"only CERTIFICATE PEM blocks are allowed, found {quoted(block.kind)}"
        if b":" in block.body:
            return "no PEM block headers are permitted"
        try:
            x509.load_der_x509_certificate(base64.b64decode(block.body))
        except ValueError:
            return "x509: malformed certificate"
    return "" if found else "must contain at least one CERTIFICATE PEM block"


def _kept_conditions(after: Object, before: Object, *, approving: bool) -> list[FieldError]:
    """An answer is given once, and by who may approve."""
    path = "status.conditions"
    given, held = ([c for c in entries(status, "conditions") if c.get("type") in _FINAL] for status in (after, before))

    def of(conditions: list[Object], kind: str) -> list[Object]:
        return [condition for condition in conditions if condition["type"] == kind]

    errors = [
        forbidden_field(path, f'updates may not remove a condition of type "{kind}"')
        for kind in _FINAL
        if len(of(given, kind)) < len(of(held, kind))
    ]
    if approving:
        return errors
    for kind in ("Approved", "Denied"):
        if len(of(given, kind)) > len(of(held, kind)):
            errors.append(forbidden_field(path, f'updates may not add a condition of type "{kind}"'))
    return errors


_SIGNER: Final = """\
Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`. If empty, it will be \
defaulted:
 1. If it's a kubelet client certificate, it is assigned
    "kubernetes.io/kube-apiserver-client-kubelet".
 2. If it's a kubelet serving certificate, it is assigned
    "kubernetes.io/kubelet-serving".
 3. Otherwise, it is assigned "kubernetes.io/legacy-unknown".
Distribution of trust for signers happens out of band. You can select on this field using `spec.signerName`."""


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        age_column(),
        Column("SignerName", description=_SIGNER),
        Column("Requestor", description="Base64-encoded PKCS#10 CSR data"),
        Column("RequestedDuration", description=doc("certificates.v1.CertificateSigningRequestSpec.expirationSeconds")),
        Column("Condition", description="Conditions applied to the request, such as approval or denial."),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    seconds = spec.get("expirationSeconds")
    return [
        name(obj),
        age(obj, now),
        text(spec, "signerName") or NONE,
        text(spec, "username"),
        duration(seconds) if seconds is not None else NONE,
        _condition(part(obj, "status")),
    ]


def _condition(status: Object) -> str:
    given = {text(c, "type") for c in entries(status, "conditions")}
    words = [k for k in ("Denied", "Approved") if k in given][:1] or ["Pending"]
    if "Failed" in given:
        words.append("Failed")
    if status.get("certificate"):
        words.append("Issued")
    return ",".join(words)


_RESETS: Final = {
    "": ("spec", "status"),
    "status": ("spec", "status.conditions"),
    "approval": ("spec", "status.certificate"),
}


def resource() -> Resource:
    return Resource(
        group="certificates.k8s.io",
        version="v1",
        kind="CertificateSigningRequest",
        plural="certificatesigningrequests",
        singular="certificatesigningrequest",
        namespaced=False,
        schema="io.k8s.api.certificates.v1.CertificateSigningRequest",
        short_names=("csr",),
        status=True,
        subresources=("approval",),
        strategy=Strategy(prepare=prepare, validate=validate, generation=None, resets=_RESETS),
        columns=_columns(),
        row=row,
        selectable={"spec.signerName": lambda obj: text(part(obj, "spec"), "signerName")},
    )
