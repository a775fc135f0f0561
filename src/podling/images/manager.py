"""`Images.ensure`: whatever it takes until an image is here and can be run.

The order is the kubelet's and Docker's: what is here already, else the registry. Two things are podling's own. An image
that was built here counts as pushed: no policy sends podling to a registry for it. And when no registry answers, the
host may stand in (see `host`). All blocking work runs in threads; equal requests share one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from podling.images import config, host, references
from podling.images.config import ImageDocument
from podling.images.credentials import Credentials
from podling.images.errors import ImageError
from podling.images.host import Host, NothingFits
from podling.images.references import Reference
from podling.images.registry import Registry, RegistryError, RegistryUnreachable
from podling.images.store import Image, Store

Policy = Literal["Always", "IfNotPresent", "Never"]

_STANDIN_TIME = 946_684_800
"""Times of all files in a stand-in's layer (the year 2000), so that equal stand-ins are equal layers."""


class Images:
    """The images of a user; many may use the same `root` at once.

    `registry` fetches what is not here; `machine` is the host that may stand in, None to forbid it.
    """

    def __init__(self, root: Path, *, registry: Registry | None = None, machine: Host | None = None) -> None:
        self.store = Store(root)
        self._registry = registry or Registry()
        self._machine = machine
        self._running: dict[tuple[str, Policy], asyncio.Task[Image]] = {}

    @property
    def architecture(self) -> str:
        """Of this machine, in OCI's words: `amd64`."""
        return self._registry.architecture

    async def ensure(self, reference: str, policy: Policy, *, credentials: Credentials | None = None) -> Image:
        """The image, fetched if the policy says so.

        Raises `ImageError` with the kubelet's reasons: InvalidImageName, ErrImageNeverPull, ErrImagePull.
        """
        name = references.parse_image(reference)
        here = self.here(name, policy)
        if here is not None:
            return here
        if policy == "Never":
            message = f'Container image "{reference}" is not present with pull policy of Never'
            raise ImageError("ErrImageNeverPull", message)
        key = (str(name), policy)
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(asyncio.to_thread(self.fetch, name, credentials or Credentials()))
            self._running[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    def _forget(self, key: tuple[str, Policy], task: asyncio.Task[Image]) -> None:
        """Also looks at the failure, in case that everyone who waited has gone: nobody is left to be told."""
        del self._running[key]
        if not task.cancelled():
            task.exception()

    def here(self, reference: Reference, policy: Policy) -> Image | None:
        """The image, if it need not be fetched under this policy."""
        image = self.store.find(reference)
        if image is None or (policy == "Always" and image.origin != "built"):
            return None
        return image

    def find(self, reference: str) -> Image | None:
        """The image, if it is here; raises `ImageError` (InvalidImageName)."""
        return self.store.find(references.parse_image(reference))

    def fetch(self, reference: Reference, credentials: Credentials) -> Image:
        """From the registry, else from the host; blocks. Raises `ImageError` ErrImagePull."""
        try:
            return self._registry.pull(reference, self.store, credentials)
        except RegistryUnreachable as error:
            return self._stand_in(reference, error)
        except (RegistryError, OSError) as error:
            raise _pull_error(reference, error) from error

    def list(self) -> Sequence[Image]:
        """All images that have a name."""
        return [image for image in self.store.images() if not image.reference.startswith(_STANDIN_PREFIX)]

    def remove(self, reference: str) -> bool:
        """Takes a name away, and frees what no other name leads to; gives whether there was one."""
        removed = self.store.remove(references.parse_image(reference))
        if removed:
            self.store.prune()
        return removed

    def _stand_in(self, reference: Reference, error: RegistryUnreachable) -> Image:
        """Raises `ImageError` with the registry's failure: that is what the user has to mend."""
        try:
            offer = host.offer(reference, self._machine) if self._machine else None
            if offer is None:
                raise _pull_error(reference, error) from error
            key = _STANDIN_PREFIX + hashlib.sha256(offer.key.encode()).hexdigest()
            image = self.store.find_name(key) or self._make(offer, key)
        except (NothingFits, OSError) as lacking:
            raise _pull_error(reference, error, hint=str(lacking)) from error
        note = f"{reference.familiar}: no registry answered; standing in with the host's {image.note}"
        return replace(image, reference=str(reference), note=note)

    def _make(self, offer: host.Offer, key: str) -> Image:
        made = offer.make()
        with self.store.staging() as staging:
            tree = staging / "layer"
            tree.mkdir()
            made.write(tree)
            _set_times(tree)
            diff_id = self.store.commit(tree)
        document = ImageDocument(made.config, (diff_id,), host_base=True, host_paths=made.host_paths)
        return self.store.add_name(config.encode(document), [key], origin="host", note=made.what)


_STANDIN_PREFIX = "standin:"


def open_images(root: Path, *, connect: Callable[..., Any] | None = None) -> Images:
    """The images of this user on this host, with the settings that people have for Docker.

    `connect` replaces `socket.create_connection` where the caller has no way to the network of its own.
    """
    registry = Registry(connect=connect) if connect else Registry()
    return Images(root, registry=registry, machine=Host.current())


def _set_times(tree: Path) -> None:
    for parent, directories, files in os.walk(tree, topdown=False):
        for name in [*directories, *files]:
            os.utime(Path(parent, name), (_STANDIN_TIME, _STANDIN_TIME), follow_symlinks=False)


def _pull_error(reference: Reference, error: Exception, *, hint: str = "") -> ImageError:
    """containerd's sentence, as the kubelet shows it."""
    code = "NotFound" if isinstance(error, RegistryError) and error.not_found else "Unknown"
    message = f'rpc error: code = {code} desc = failed to pull and unpack image "{reference}": {error}'
    return ImageError("ErrImagePull", message + (f" ({hint})" if hint else ""))
