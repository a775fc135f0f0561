"""Admission webhooks as operators bring them: kopf serves them itself and writes their configurations."""

import datetime
import ipaddress
import os
import tempfile
from pathlib import Path

import kopf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

GROUP = ("tales.podling.test", "v1", "tales")


@kopf.on.startup()
def serve(settings, **_):
    host = os.environ["TALE_HOST"]
    certificate, key = _self_signed(host)
    settings.admission.server = kopf.WebhookServer(addr="0.0.0.0", host=host, certfile=certificate, pkeyfile=key)
    settings.admission.managed = f"{os.environ['TALE_NAMESPACE']}.tales.podling.test"


@kopf.on.mutate(*GROUP, operations=["CREATE", "UPDATE"])
def trim(spec, patch, **_):
    if spec["text"] != spec["text"].strip():
        patch.spec["text"] = spec["text"].strip()


@kopf.on.validate(*GROUP)
def read_first(spec, warnings, userinfo, **_):
    if "boring" in spec["text"]:
        raise kopf.AdmissionError(f"{userinfo['username']} is bored", code=418)
    if "long" in spec["text"]:
        warnings.append("few will read it to its end")


def _self_signed(host):
    """The files of a certificate for an address and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tale")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    built = builder.add_extension(address, critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    directory = Path(tempfile.mkdtemp())
    (directory / "tls.crt").write_bytes(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (directory / "tls.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return directory / "tls.crt", directory / "tls.key"
