"""Short, stable hashes for names: `web-7c9f6d5b8`. Letters that can spell words are left out, as in Kubernetes.

The numbers differ from upstream's (it hashes Go's memory layout); what counts is that the same template always gives
the same hash, that another one practically never does, and that the result is a valid label value.
"""

from __future__ import annotations

import hashlib

import orjson

from podling.store.types import Object

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Object, collisions: int = 0) -> str:
    """The hash of a pod template; `collisions` is mixed in when an earlier hash was taken by another template."""
    return _encode(orjson.dumps(template, option=orjson.OPT_SORT_KEYS), collisions)


def _encode(data: bytes, collisions: int) -> str:
    suffix = str(collisions).encode() if collisions else b""
    number = int.from_bytes(hashlib.blake2b(data + suffix, digest_size=4).digest(), "big")
    return "".join(ALPHABET[ord(digit) % len(ALPHABET)] for digit in str(number))
