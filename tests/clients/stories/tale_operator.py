"""An operator as people write them with kopf: it keeps a ConfigMap for each Tale, with a timer and a daemon."""

import kopf

GROUP = ("tales.podling.test", "v1", "tales")


@kopf.on.startup()
def settle(settings, **_):
    settings.persistence.finalizer = "tales.podling.test/kept"


@kopf.on.create(*GROUP)
async def create(spec, name, namespace, patch, **_):
    from kubernetes import client, config

    config.load_kube_config()
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": spec["text"]}}
    kopf.adopt(body)
    client.CoreV1Api().create_namespaced_config_map(namespace, body)
    patch.status["phase"] = "Told"
    return {"words": len(spec["text"].split())}


@kopf.on.update(*GROUP, field="spec.text")
async def update(old, new, name, namespace, **_):
    from kubernetes import client

    client.CoreV1Api().patch_namespaced_config_map(name, namespace, {"data": {"text": new, "before": old}})


@kopf.on.create(*GROUP, id="stubborn", when=lambda spec, **_: spec.get("stubborn"))
async def succeed_at_last(retry, **_):
    if retry < 2:
        raise kopf.TemporaryError("not yet", delay=0.2)


@kopf.on.delete(*GROUP)
async def delete(name, namespace, **_):
    from kubernetes import client

    body = {"metadata": {"name": f"{name}-epitaph"}}
    client.CoreV1Api().create_namespaced_config_map(namespace, body)


@kopf.timer(*GROUP, interval=0.3)
async def tick(status, patch, **_):
    patch.status["ticks"] = status.get("ticks", 0) + 1


@kopf.daemon(*GROUP, cancellation_timeout=2)
async def follow(stopped, body, **_):
    kopf.info(body, reason="Followed", message="as long as it lasts")
    await stopped.wait()


@kopf.on.event("configmaps", labels={"tale": "yes"})
async def see(type, name, namespace, **_):
    from kubernetes import client, config

    config.load_kube_config()
    seen = {"DELETED": "gone", None: "listed"}.get(type, "seen")
    client.CoreV1Api().create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-{seen}"}})
