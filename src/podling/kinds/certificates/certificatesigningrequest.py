"""CertificateSigningRequest: somebody asks a signer for a certificate, and somebody approves or denies it."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Any, Final

from cryptography import x509

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from podling.api.meta import timestamp
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import NONE, age, age_column, doc, duration, name, name_column
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_PEM: Final = b"-----BEGIN CERTIFICATE REQUEST-----"
_FINAL: Final = ("Approved", "Denied", "Failed")
_LEAST_SECONDS: Final = 600


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
    _stamp(entries(status, "conditions"), entries(before, "conditions"), write.now)


def _stamp(conditions: list[Object], before: list[Object], now: datetime) -> None:
    held = {(text(c, "type"), text(c, "status")): c for c in before}
    for condition in conditions:
        was = held.get((text(condition, "type"), text(condition, "status")), {})
        if not condition.get("lastTransitionTime"):
            condition["lastTransitionTime"] = was.get("lastTransitionTime") or timestamp(now)
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = was.get("lastUpdateTime") or timestamp(now)


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    if write.old is None:
        return errors + _spec(part(write.new, "spec"))
    return errors + _conditions(part(write.new, "status"), part(write.old, "status"), write.subresource)


def _spec(spec: Object) -> list[FieldError]:
    errors = _request(text(spec, "request"))
    usages = entries(spec, "usages")
    if not usages:
        errors.append(required("spec.usages"))
    for at, usage in each("spec.usages", usages):
        if usages.count(usage) > 1 and usages.index(usage) < int(at.rpartition("[")[2][:-1]):
            errors.append(duplicate(at, usage))
    errors += _signer(text(spec, "signerName"))
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
        return [invalid_value("spec.request", encoded, "PEM block type must be CERTIFICATE REQUEST")]
    try:
        x509.load_pem_x509_csr(content)
    except ValueError as error:
        return [invalid_value("spec.request", encoded, str(error))]
    return []


def _signer(signer: str) -> list[FieldError]:
    path = "spec.signerName"
    if not signer:
        return [required(path)]
    domain, slash, rest = signer.partition("/")
    if not slash or "/" in rest:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid_value(path, signer, detail)]
    errors = fields.says(path, domain, names.dns1123_subdomain(domain))
    if len(domain.split(".")) < 2:
        errors.append(invalid_value(path, domain, "should be a domain with at least two segments separated by dots"))
    for step in rest.split("."):
        errors += fields.says(path, step, names.dns1123_subdomain(step))
    return errors


def _conditions(after: Object, before: Object, subresource: str) -> list[FieldError]:
    path = "status.conditions"
    given = {text(c, "type") for c in entries(after, "conditions")}
    errors: list[FieldError] = []
    for kind in _FINAL:
        held = any(c.get("type") == kind for c in entries(before, "conditions"))
        if held and kind not in given:
            errors.append(forbidden_field(path, f'updates may not remove a condition of type "{kind}"'))
        if not held and kind in given and kind != "Failed" and subresource != "approval":
            errors.append(forbidden_field(path, f'updates may not add a condition of type "{kind}"'))
    if {"Approved", "Denied"} <= given:
        errors.append(invalid_value(path, "Denied", "Approved and Denied conditions are mutually exclusive"))
    for at, condition in each(path, after.get("conditions")):
        kind, status = text(condition, "type"), text(condition, "status")
        if not kind:
            errors.append(required(f"{at}.type"))
        if kind in _FINAL and status != "True":
            errors.append(not_supported(f"{at}.status", status, ("True",)))
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
    words = [k for k in ("Approved", "Denied") if k in given][:1] or ["Pending"]
    if "Failed" in given:
        words.append("Failed")
    if status.get("certificate"):
        words.append("Issued")
    return ",".join(words)


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
        strategy=Strategy(prepare=prepare, validate=validate, generation=None, managed=False),
        columns=_columns(),
        row=row,
        selectable={"spec.signerName": lambda obj: text(part(obj, "spec"), "signerName")},
    )
