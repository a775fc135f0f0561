"""What programs do with kubernetes_asyncio."""

import asyncio
from contextlib import asynccontextmanager

from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.dynamic import DynamicClient
from kubernetes_asyncio.stream import WsApiClient
from pods import talker


@asynccontextmanager
async def _connected(kind=client.ApiClient):
    await config.load_kube_config()
    async with kind() as api:
        yield api


def _config_map(name, **data):
    return {"metadata": {"name": name}, "data": data}


async def objects_live_and_conflicts_are_told(namespace):
    async with _connected() as api:
        core = client.CoreV1Api(api)
        stale = await core.create_namespaced_config_map(namespace, _config_map("one", a="1"))
        await core.patch_namespaced_config_map("one", namespace, {"data": {"a": "2"}})
        try:
            await core.replace_namespaced_config_map("one", namespace, stale)
            raise AssertionError("an outdated object was accepted")
        except ApiException as error:
            assert error.status == 409, error
        assert (await core.read_namespaced_config_map("one", namespace)).data == {"a": "2"}
        await core.delete_collection_namespaced_config_map(namespace)
        assert (await core.list_namespaced_config_map(namespace, field_selector="metadata.name=one")).items == []


async def a_watch_follows_many_writers(namespace):
    async with _connected() as api:
        core = client.CoreV1Api(api)
        start = (await core.list_namespaced_config_map(namespace)).metadata.resource_version
        await asyncio.gather(*(core.create_namespaced_config_map(namespace, _config_map(f"m-{n}")) for n in range(50)))
        seen = []
        async with watch.Watch() as watching:
            stream = watching.stream(core.list_namespaced_config_map, namespace, resource_version=start)
            async for event in stream:
                seen.append((event["type"], event["object"].metadata.name))
                if len([name for _, name in seen if name.startswith("m-")]) == 50:
                    break
        assert {("ADDED", f"m-{n}") for n in range(50)} <= set(seen)


async def a_command_runs_in_a_pod(namespace):
    async with _connected() as api:
        core = client.CoreV1Api(api)
        await core.create_namespaced_pod(namespace, talker("talker"))
        async with watch.Watch() as watching:
            async for event in watching.stream(core.list_namespaced_pod, namespace, timeout_seconds=30):
                if (
                    all(s.ready for s in event["object"].status.container_statuses or [None] if s)
                    and event["object"].status.phase == "Running"
                ):
                    break
        log = await core.read_namespaced_pod_log("talker", namespace, follow=True, _preload_content=False)
        assert (await log.content.readline()).decode() == "hello\n"
        log.close()
    async with _connected(WsApiClient) as api:
        said = await client.CoreV1Api(api).connect_get_namespaced_pod_exec(
            "talker", namespace, command=["sh", "-c", "echo out; echo err >&2"], stdout=True, stderr=True, tty=False
        )
        assert sorted(said.split()) == ["err", "out"], said


async def the_dynamic_client_discovers(namespace):
    async with _connected() as api:
        dynamic = await DynamicClient(api)
        jobs = await dynamic.resources.get(api_version="batch/v1", kind="Job")
        pod = talker("once")["spec"]
        pod["containers"][0]["command"] = ["true"]
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "once"},
            "spec": {"template": {"spec": {**pod, "restartPolicy": "Never"}}},
        }
        await dynamic.create(jobs, body=job, namespace=namespace)
        async for event in jobs.watch(namespace=namespace, timeout=30):
            if event["object"].status.succeeded == 1:
                break
        else:
            raise AssertionError("the job does not end in time")


async def one_of_two_candidates_leads(namespace):
    from kubernetes_asyncio.leaderelection import electionconfig, leaderelection
    from kubernetes_asyncio.leaderelection.resourcelock.leaselock import LeaseLock

    async with _connected() as api:
        led = asyncio.Queue()

        def candidate(name):
            lock = LeaseLock("story", namespace, name, api)

            async def lead():
                await led.put(name)
                await asyncio.sleep(60)

            async def stop():
                return None

            settings = electionconfig.Config(lock, 3, 2, 1, onstarted_leading=lead, onstopped_leading=stop)
            return asyncio.create_task(leaderelection.LeaderElection(settings).run())

        first = candidate("first")
        assert await asyncio.wait_for(led.get(), 10) == "first"
        second = candidate("second")
        first.cancel()
        assert await asyncio.wait_for(led.get(), 20) == "second"
        second.cancel()
