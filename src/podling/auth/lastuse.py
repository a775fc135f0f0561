"""The day on which the token of a Secret was last used, as a label: what nobody needs can be found by it (KEP-2799)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.auth.tokens import LAST_USED
from podling.store.types import Object

_log = logging.getLogger(__name__)


class LastUse:
    """Callable with each secret whose token was shown; `now` is the cluster's time."""

    def __init__(self, client: Client, now: Callable[[], datetime]) -> None:
        self._client = client
        self._now = now
        self._writing: dict[str, asyncio.Task[None]] = {}

    def __call__(self, secret: Object) -> None:
        now, uid = self._now(), meta.uid(secret)
        days = [(now + timedelta(days=n)).strftime("%Y-%m-%d") for n in (0, 1)]
        if meta.labels(secret).get(LAST_USED) in days or uid in self._writing:
            return
        task = self._writing[uid] = asyncio.ensure_future(self._mark(secret, days[0]))
        task.add_done_callback(lambda _task: self._writing.pop(uid))

    async def _mark(self, secret: Object, day: str) -> None:
        patch: Object = {"metadata": {"uid": meta.uid(secret), "labels": {LAST_USED: day}}}
        try:
            await self._client.patch("secrets", meta.namespace(secret), meta.name(secret), patch)
        except ApiError as error:
            _log.warning("the use of a token is not noted: %s", error.message)
