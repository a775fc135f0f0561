// What programs do with @kubernetes/client-node.
import assert from "node:assert/strict";
import net from "node:net";
import { PassThrough, Writable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";

const TALKER = `
import http.server
class Talker(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"heard")
print("hello", flush=True)
http.server.ThreadingHTTPServer(("", 8000), Talker).serve_forever()
`;

function configuration(k8s) {
  const config = new k8s.KubeConfig();
  config.loadFromDefault();
  return config;
}

function configMap(name, data) {
  return { metadata: { name, labels: { kind: "story" } }, data };
}

function collected() {
  const chunks = [];
  const sink = new Writable({
    write(chunk, _, done) {
      chunks.push(chunk);
      done();
    },
  });
  return [sink, () => Buffer.concat(chunks).toString()];
}

async function until(condition, what) {
  for (let tries = 0; tries < 300; tries++) {
    if (await condition()) return;
    await pause(50);
  }
  assert.fail(`in vain: ${what}`);
}

async function runTalker(core, namespace) {
  const readinessProbe = { tcpSocket: { port: 8000 }, periodSeconds: 1 };
  const container = { name: "main", image: "python:3.13-slim", command: ["python", "-c", TALKER], readinessProbe };
  const body = { metadata: { name: "talker" }, spec: { terminationGracePeriodSeconds: 0, containers: [container] } };
  await core.createNamespacedPod({ namespace, body });
  await until(async () => {
    const pod = await core.readNamespacedPod({ namespace, name: "talker" });
    return pod.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True");
  }, "the pod is ready");
}

export async function objectsLiveAndConflictsAreTold(k8s, namespace) {
  const core = configuration(k8s).makeApiClient(k8s.CoreV1Api);
  const stale = await core.createNamespacedConfigMap({ namespace, body: configMap("one", { a: "1" }) });
  await core.patchNamespacedConfigMap(
    { namespace, name: "one", body: { data: { a: "2" } } },
    k8s.setHeaderOptions("Content-Type", k8s.PatchStrategy.MergePatch),
  );
  await assert.rejects(core.replaceNamespacedConfigMap({ namespace, name: "one", body: stale }), { code: 409 });
  const list = await core.listNamespacedConfigMap({ namespace, labelSelector: "kind=story", limit: 1 });
  assert.deepEqual(list.items.map((m) => m.data), [{ a: "2" }]);
  await core.deleteNamespacedConfigMap({ namespace, name: "one" });
  await assert.rejects(core.readNamespacedConfigMap({ namespace, name: "one" }), { code: 404 });
}

export async function anInformerTellsOfChanges(k8s, namespace) {
  const config = configuration(k8s);
  const core = config.makeApiClient(k8s.CoreV1Api);
  const seen = new Set();
  const informer = k8s.makeInformer(
    config,
    `/api/v1/namespaces/${namespace}/configmaps`,
    () => core.listNamespacedConfigMap({ namespace, labelSelector: "kind=story" }),
    "kind=story",
  );
  for (const verb of ["add", "update", "delete"]) informer.on(verb, (m) => seen.add(`${verb} ${m.metadata.name}`));
  informer.on("error", (error) => console.error("informer:", error));
  await core.createNamespacedConfigMap({ namespace, body: configMap("before", {}) });
  await informer.start();
  await core.createNamespacedConfigMap({ namespace, body: configMap("during", {}) });
  await core.replaceNamespacedConfigMap({ namespace, name: "during", body: configMap("during", { a: "1" }) });
  await core.deleteNamespacedConfigMap({ namespace, name: "before" });
  const wanted = ["add before", "add during", "update during", "delete before"];
  await until(() => wanted.every((w) => seen.has(w)), `${wanted} in ${[...seen]}`);
  await informer.stop();
}

export async function objectsAreAppliedByDiscovery(k8s, namespace) {
  const objects = k8s.KubernetesObjectApi.makeApiClient(configuration(k8s));
  const wanted = {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "closed", namespace },
    spec: { podSelector: {}, policyTypes: ["Ingress"] },
  };
  await objects.patch(wanted, undefined, undefined, "story", true, k8s.PatchStrategy.ServerSideApply);
  const read = await objects.read(wanted);
  assert.equal(read.metadata.managedFields[0].manager, "story");
  await objects.delete(wanted);
  await assert.rejects(objects.read(wanted), { code: 404 });
}

export async function aPodIsTalkedTo(k8s, namespace) {
  const config = configuration(k8s);
  await runTalker(config.makeApiClient(k8s.CoreV1Api), namespace);
  await runsACommand(k8s, config, namespace);
  await followsTheLog(k8s, config, namespace);
  await forwardsAPort(k8s, config, namespace);
  await listsDirectories(k8s, config, namespace);
}

async function runsACommand(k8s, config, namespace) {
  const [out, said] = collected();
  const [err, complained] = collected();
  const status = await new Promise((resolve, reject) => {
    const words = ["sh", "-c", "cat; echo err >&2; exit 3"];
    const input = new PassThrough();
    new k8s.Exec(config).exec(namespace, "talker", "main", words, out, err, input, false, resolve).catch(reject);
    input.end("typed\n");
  });
  assert.equal(said(), "typed\n");
  assert.equal(complained(), "err\n");
  assert.equal(status.details.causes[0].message, "3");
}

async function followsTheLog(k8s, config, namespace) {
  const [sink, logged] = collected();
  const controller = await new k8s.Log(config).log(namespace, "talker", "main", sink, { follow: true });
  await until(() => logged() === "hello\n", "the log");
  controller.abort();
}

async function forwardsAPort(k8s, config, namespace) {
  const forward = new k8s.PortForward(config);
  const server = net.createServer((socket) => forward.portForward(namespace, "talker", [8000], socket, null, socket));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const answer = await fetch(`http://127.0.0.1:${server.address().port}/`);
  assert.equal(await answer.text(), "heard");
  server.close();
}

async function listsDirectories(k8s, config, namespace) {
  const [sink, said] = collected();
  await new Promise((resolve, reject) => {
    new k8s.Exec(config).exec(namespace, "talker", "main", ["ls", "/"], sink, sink, null, false, resolve).catch(reject);
  });
  assert.ok(said().includes("usr"), said());
}

export async function usageIsShown(k8s, namespace) {
  const config = configuration(k8s);
  const core = config.makeApiClient(k8s.CoreV1Api);
  const metrics = new k8s.Metrics(config);
  await until(async () => (await metrics.getNodeMetrics()).items.length > 0, "usage of nodes");
  const [node] = await k8s.topNodes(core);
  assert.ok(node.CPU.Capacity > 0 && node.Memory.Capacity > 0n, JSON.stringify(node.Node.metadata));
  assert.deepEqual((await metrics.getPodMetrics(namespace)).items, []);
}

export async function aWatchEndsInTimeAndAfterAnError(k8s, namespace) {
  const config = configuration(k8s);
  const core = config.makeApiClient(k8s.CoreV1Api);
  await core.createNamespacedConfigMap({ namespace, body: configMap("one", {}) });
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const seen = [];
  const ended = (query) =>
    new Promise((resolve) => {
      const told = (kind, object) => seen.push(`${kind} ${object.metadata?.name ?? object.code}`);
      new k8s.Watch(config).watch(path, query, told, resolve);
    });
  await ended({ labelSelector: "kind=story", timeoutSeconds: 1 });
  assert.deepEqual(seen, ["ADDED one"]);
  const refused = await ended({ resourceVersion: "x" });
  assert.ok(refused instanceof Error, String(refused));
}
