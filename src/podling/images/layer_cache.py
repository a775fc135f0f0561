"""The layers that steps make, each looked up first by a key of everything that could change it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from podling.images import accounts, copying, layers, view
from podling.images.stage import State, Step
from podling.images.store import Store

_CACHE_VERSION = "1"


class LayerCache:
    """`fresh`: nothing is recalled."""

    def __init__(self, store: Store, *, fresh: bool) -> None:
        self.store = store
        self._fresh = fresh

    def key(self, state: State, kind: str, *inputs: str) -> str:
        parts = [_CACHE_VERSION, kind, *state.diff_ids, str(state.host_base), *state.host_paths, *inputs]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def recall(self, state: State, key: str) -> bool:
        """Adds the layer of that key to the stage, if there is one."""
        known = "" if self._fresh else self.store.recall(key)
        if known:
            state.diff_ids.append(known)
        return bool(known)

    def add(self, state: State, key: str, diff_id: str) -> None:
        """Adds a new layer to the stage, to be recalled by that key."""
        self.store.remember(key, diff_id)
        state.diff_ids.append(diff_id)

    def ensure(self, state: State, key: str, write: Callable[[copying.Layer], None], step: Step) -> bool:
        """The layer from the cache, else made now; gives whether it was cached."""
        if self.recall(state, key):
            return True
        with self.store.staging() as staging:
            root = staging / "layer"
            root.mkdir()
            try:
                write(copying.Layer(root, self.tree(state), self.store.root / "layers"))
            except copying.CannotCopy as error:
                raise step.error(str(error)) from error
            except layers.LayerError as error:
                raise step.error(f"failed to unpack: {error}") from error
            diff_id = self.store.commit(root)
        self.add(state, key, diff_id)
        return False

    # What the layers of a stage hold

    def tree(self, state: State) -> view.ImageView:
        lowers = [Path(path) for path in self.store.lowers(state.diff_ids)]
        return view.ImageView(lowers, host_base=state.host_base, host_paths=state.host_paths)

    def account(self, user: str, state: State, step: Step, *, group_like_user: bool = False) -> accounts.Account:
        """`group_like_user`: for --chown, where a number alone stands for both."""
        tree = self.tree(state)
        passwd, group = view.read_text(tree, "/etc/passwd"), view.read_text(tree, "/etc/group")
        try:
            found = accounts.resolve(user, passwd, group)
        except accounts.UnknownAccount as error:
            raise step.error(str(error), "Use numbers, or make the account in a RUN step first.") from error
        if group_like_user and ":" not in user and user.isdigit():
            return replace(found, gid=int(user))
        return found
