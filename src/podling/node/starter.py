"""Starts one container: its image, configuration, process and `postStart` hook, in the kubelet's order and words.

Every way in which that fails is a `StartFailure` with the reason that the status shows.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from podling.api import meta
from podling.images.errors import ImageError
from podling.node import backoff, pull_secrets
from podling.node import container as containers
from podling.node.container import CreateError, Place
from podling.node.environment import ConfigError, PodContext, container_environment
from podling.node.hooks import HookError, run_hook
from podling.node.identity import Identity
from podling.node.interfaces import Image
from podling.node.lifecycle import spec_hash
from podling.node.naming import host_name, hosts_file, node_hosts_file, resolver
from podling.node.state import Instance, Slot, field_path, part
from podling.node.surroundings import AGENT, Surroundings
from podling.node.volumes import Volumes
from podling.sandbox.client import SandboxError, StartError
from podling.sandbox.spec import ContainerState
from podling.store.types import Object

START_FAILED = 128
"""Exit code of a container whose process could not be started."""

TERMINATION_LOG = "termination-log"
"""The file of a run's directory that holds its termination message."""

RETRY_AFTER = 10.0
"""Seconds until a container that could not be made is tried again (the kubelet's sync back-off)."""


class StartFailure(Exception):
    """A container did not start. `reason` and `message` go into `state.waiting`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Setting:
    """What a start needs of the pod around the container."""

    context: PodContext
    sandbox: str
    volumes: Volumes
    save: Callable[[], None]
    """Writes the slots down; called before anything runs that they name."""
    run_of: Callable[[str], str | None]
    """Id of the present run of another container of the pod, by name."""
    started: Callable[[Slot, ContainerState], None]
    """Told when the process runs and its `postStart` hook, if it has one, is done."""


class Starter:
    def __init__(self, surroundings: Surroundings) -> None:
        self._with = surroundings

    async def start(self, container: Object, slot: Slot, setting: Setting) -> None:
        """Runs the container once more. Raises `StartFailure`."""
        pod = setting.context.pod
        image = await self._image(container, slot, pod)
        run = self._new_run(container, slot)
        try:
            args, place = self._configure(container, image, run, setting)
        except ConfigError as error:
            raise self._failure(pod, slot, "CreateContainerConfigError", str(error)) from error
        except (CreateError, OSError) as error:
            raise self._failure(pod, slot, "CreateContainerError", str(error)) from error
        await self._forget_last_run(slot)
        slot.renew(run)
        setting.save()
        await self._run(container, image, slot, run, args, place, setting)

    # Image

    async def _image(self, container: Object, slot: Slot, pod: Object) -> Image:
        reference: str = container["image"]
        try:
            image = await self._find_or_pull(reference, _pull_policy(container), slot, pod)
        except ImageError as error:
            raise self._image_failure(reference, slot, pod, error) from error
        slot.pull_backoff = backoff.NONE
        slot.pull_error = ""
        return image

    async def _find_or_pull(self, reference: str, policy: str, slot: Slot, pod: Object) -> Image:
        images = self._with.images
        try:
            present = images.present(reference, policy)
        except ImageError as error:
            self._tell(pod, slot, "Warning", "InspectFailed", error.message)
            raise
        if present is not None:
            text = f'Container image "{reference}" already present on machine and can be accessed by the pod'
            self._tell(pod, slot, "Normal", "Pulled", text)
            return present
        if policy == "Never":
            text = f'Container image "{reference}" is not present with pull policy of Never'
            self._tell(pod, slot, "Warning", "ErrImageNeverPull", text)
            raise ImageError("ErrImageNeverPull", text)
        return await self._pull(reference, policy, slot, pod)

    async def _pull(self, reference: str, policy: str, slot: Slot, pod: Object) -> Image:
        self._tell(pod, slot, "Normal", "Pulling", f'Pulling image "{reference}"')
        began = self._with.clock.host()
        try:
            image = await self._with.images.pull(reference, policy, pull_secrets.of_pod(pod, self._with.client))
        except ImageError as error:
            now = self._with.now()
            slot.pull_backoff = backoff.after_attempt(slot.pull_backoff, now, now)
            slot.pull_error = f"{error.reason}: {error.message}"
            self._tell(pod, slot, "Warning", "Failed", f'Failed to pull image "{reference}": {error.message}')
            self._tell_of_secrets(pod)
            raise
        took = f"{self._with.clock.host() - began:.3f}s"
        size = self._with.images.size(image)
        text = (
            f'Successfully pulled image "{reference}" in {took} ({took} including waiting). Image size: {size} bytes.'
        )
        self._tell(pod, slot, "Normal", "Pulled", text)
        if image.note:
            self._tell(pod, slot, "Normal", "StandIn", image.note)
        return image

    def _tell_of_secrets(self, pod: Object) -> None:
        missing = pull_secrets.missing(pod, self._with.client)
        if missing:
            names = f"Unable to retrieve some image pull secrets ({', '.join(missing)})"
            text = f"{names}; attempting to pull the image may not succeed."
            self._with.recorder(pod, "Warning", "FailedToRetrieveImagePullSecret", text)

    def _image_failure(self, reference: str, slot: Slot, pod: Object, error: ImageError) -> StartFailure:
        self._tell(pod, slot, "Warning", "Failed", f"Error: {error.reason}")
        slot.retry_at = self._with.now() + (slot.pull_backoff.delay or RETRY_AFTER)
        return StartFailure(error.reason, error.message)

    # Configuration

    def _new_run(self, container: Object, slot: Slot) -> Instance:
        return Instance(
            id=self._with.new_id(),
            attempt=slot.current.attempt + 1 if slot.current is not None else 0,
            spec_hash=spec_hash(container),
            created_at=self._with.now(),
            resources=part(container, "resources"),
        )

    def _configure(self, container: Object, image: Image, run: Instance, setting: Setting) -> tuple[list[str], Place]:
        """Fills `run` and says what and where to run. Raises `ConfigError`, `CreateError`."""
        context = setting.context
        who = containers.identify(container, context.pod, image)
        variables = container_environment(container, context, self._with.client, setting.volumes.path_of)
        args = containers.arguments(container, image, variables)
        mounts = setting.volumes.mounts(container, variables)
        host = host_name(context.pod, self._with.node_name, self._with.network.cluster_domain)
        _describe(run, container, image, who)
        run.env = containers.full_environment(container, image, who, variables, host)
        directory = self._with.run_directory(context.pod, container["name"], run.attempt)
        place = Place(
            pod=setting.sandbox,
            host_name=host,
            directory=str(directory / "root"),
            log_path=str(self._with.log_path(context.pod, container["name"], run.attempt)),
            termination_log=str(directory / TERMINATION_LOG),
            files=self._files(context, host),
            mounts=mounts,
        )
        _make_place(place)
        return args, place

    def _files(self, context: PodContext, host: str) -> dict[str, str]:
        network = self._with.network
        names = resolver(context.pod, network.nameservers, network.cluster_domain, self._with.host_resolver)
        return {
            "/etc/hostname": f"{host}\n",
            "/etc/hosts": self._hosts(context),
            "/etc/resolv.conf": names.text(),
        }

    def _hosts(self, context: PodContext) -> str:
        if not meta.spec(context.pod).get("hostNetwork"):
            return hosts_file(context.pod, context.ip, self._with.network.cluster_domain)
        machine = Path("/etc/hosts")
        text = machine.read_text(errors="replace") if machine.exists() else ""
        return node_hosts_file(context.pod, text, context.host_ip, self._with.node_name)

    async def _forget_last_run(self, slot: Slot) -> None:
        """Frees the ended run's root; its log stays as the previous one, the log before it goes."""
        if slot.current is None:
            return
        now, run = self._with.now(), slot.current
        slot.restart_backoff = backoff.after_attempt(slot.restart_backoff, run.finished_at, now)
        await self._with.sandbox.remove(run.id)

    # Process

    async def _run(
        self,
        container: Object,
        image: Image,
        slot: Slot,
        run: Instance,
        args: list[str],
        place: Place,
        setting: Setting,
    ) -> None:
        pod = setting.context.pod
        spec = containers.container_spec(container, pod, image, run, args, place)
        target = setting.run_of(container.get("targetContainerName") or "")
        if target is not None:
            spec["target"] = target
        self._tell(pod, slot, "Normal", "Created", "Container created")
        try:
            state = await self._with.sandbox.start(spec)
        except StartError as error:
            _fail_run(run, error, self._with.now())
            setting.save()
            failure = self._failure(pod, slot, "RunContainerError", run.message)
            slot.retry_at = 0.0  # it counts as a run that ended, which has a back-off of its own
            raise failure from error
        except SandboxError as error:
            slot.forget()
            raise self._failure(pod, slot, "CreateContainerError", str(error)) from error
        self._tell(pod, slot, "Normal", "Started", "Container started")
        slot.waiting = None
        slot.retry_at = 0.0
        hook = part(container, "lifecycle").get("postStart")
        if hook:
            await self._post_start(hook, container, slot, run, setting)
        setting.started(slot, state)

    async def _post_start(self, hook: Object, container: Object, slot: Slot, run: Instance, setting: Setting) -> None:
        try:
            await run_hook(hook, container, run, setting.context.ip, self._with.sandbox, AGENT)
        except HookError as error:
            self._tell(setting.context.pod, slot, "Warning", "FailedPostStartHook", "PostStartHook failed")
            raise StartFailure("PostStartHookError", "PostStartHook failed") from error

    def _failure(self, pod: Object, slot: Slot, reason: str, message: str) -> StartFailure:
        self._tell(pod, slot, "Warning", "Failed", f"Error: {message}")
        slot.retry_at = self._with.now() + RETRY_AFTER
        return StartFailure(reason, message)

    def _tell(self, pod: Object, slot: Slot, type: str, reason: str, message: str) -> None:
        self._with.recorder(pod, type, reason, message, field_path=field_path(pod, slot.name))


def _pull_policy(container: Object) -> str:
    return container.get("imagePullPolicy") or "IfNotPresent"


def _describe(run: Instance, container: Object, image: Image, who: Identity) -> None:
    run.image = container["image"]
    run.image_id = image.id
    run.uid, run.gid, run.groups = who.uid, who.gid, list(who.groups)
    run.cwd = containers.working_directory(container, image)
    run.stop_signal = containers.stop_signal(container, image)


def _make_place(place: Place) -> None:
    Path(place.directory).mkdir(parents=True, exist_ok=True)
    Path(place.log_path).parent.mkdir(parents=True, exist_ok=True)
    file = Path(place.termination_log)
    file.touch()
    file.chmod(0o666)


def _fail_run(run: Instance, error: StartError, now: float) -> None:
    """A process that never was: container runtimes report it as an end that has no beginning, in these words."""
    run.exit_code = START_FAILED
    run.reason = "StartError"
    shim = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed"
    run.message = f"{shim}: unable to start container process: error during container init: {error}"
    run.finished_at = now


async def remove_old_runs(surroundings: Surroundings, pod: Object, slot: Slot) -> None:
    """Removes the roots of all ended runs but the present one, and the logs of all but the last two."""
    if slot.current is None:
        return
    for attempt in range(max(0, slot.current.attempt - 2), slot.current.attempt):
        directory = surroundings.run_directory(pod, slot.name, attempt)
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    for log in surroundings.log_path(pod, slot.name, 0).parent.glob("*.log*"):
        number = log.name.split(".", 1)[0]
        if number.isdigit() and int(number) < slot.current.attempt - 1:
            log.unlink(missing_ok=True)
