// `node runner.mjs ENVIRONMENT PACKAGE SCRIPT STORY NAMESPACE` tells one story with the package of the environment.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [environment, name, script, story, namespace] = process.argv.slice(2);
const found = createRequire(`${environment}/`).resolve(name);
const client = await import(pathToFileURL(found));
const stories = await import(pathToFileURL(script));
await stories[story](client, namespace);
process.exit(0);
