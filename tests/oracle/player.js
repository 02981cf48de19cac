// The native side: the same script in the page and, behind its steps, in the service
// worker. STEPS has what a scenario's steps do; see scenarios.py.
"use strict";

const BASE = new URL(".", location.href).href;
const WATCHED = ["content-length", "content-range", "etag", "x-told"];
const PATIENCE = 3000;
const fetches = new Map();
const heard = new Map();
const events = [];
let latest;

const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const shown = (url) => url.startsWith(BASE) ? url.slice(BASE.length) : url;
const manager = async () =>
  (self.registration ?? await navigator.serviceWorker.ready).backgroundFetch;
const request = (item) =>
  typeof item === "object" ? new Request(item.url, item) : item;
const until = async (condition) => {
  while (!condition()) await sleep(20);
};

// Whether records are available is told apart: it changes when listeners end.
const attributes = ({ id, uploadTotal, uploaded, downloadTotal, downloaded, result,
                      failureReason }) => (
  { id, uploadTotal, uploaded, downloadTotal, downloaded, result, failureReason });

async function digest(body) {
  const bytes = await body.arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hex = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${bytes.byteLength} bytes, ${hex.slice(0, 16)}`;
}

const named = ({ request: { method, url } }) => `${method} ${shown(url)}`;

async function outcome(act) {
  try {
    return { resolved: await act() ?? null };
  } catch (error) {
    return { rejected: error.name };
  }
}

async function described(record) {
  return {
    record: named(record),
    request: await outcome(() => digest(record.request.clone())),
    response: await outcome(() => record.responseReady.then(async (response) => ({
      status: response.status,
      ok: response.ok,
      type: response.type,
      url: shown(response.url),
      redirected: response.redirected,
      headers: Object.fromEntries(
        WATCHED.map((name) => [name, response.headers.has(name)])),
      body: await outcome(() => digest(response)),
    }))),
  };
}

const STEPS = {
  async fetch({ id, requests, options }) {
    const items = Array.isArray(requests) ? requests.map(request) : request(requests);
    const fetched = await (await manager()).fetch(id, items, options);
    const told = attributes(fetched);
    fetches.set(latest = id, fetched);
    heard.set(fetched, []);
    fetched.addEventListener("progress", () => heard.get(fetched).push(
      attributes(fetched)));
    return told;
  },
  async get({ id }, of) {
    const found = await (await manager()).get(id);
    return found && { ...attributes(found), same: found === of };
  },
  getIds: async () => (await manager()).getIds(),
  attributes: async (_, of) => attributes(of),
  abort: async (_, of) => of.abort(),
  async match(step, of) {
    const found = await of.match(request(step.request), step.options);
    return found && named(found);
  },
  async matchAll(step, of) {
    const found = "request" in step
      ? await of.matchAll(request(step.request), step.options) : await of.matchAll();
    return found.map(named).sort();
  },
  async records(_, of) {
    const found = await Promise.all((await of.matchAll()).map(described));
    return found.sort((one, other) => one.record < other.record ? -1 : 1);
  },
  async ordered(_, of) {
    const found = (await of.matchAll()).map(named);
    return found.every((name, index) => index === 0 || found[index - 1] <= name);
  },
  available: async (_, of) => of.recordsAvailable,
  async early(step, of) {
    const record = await of.match(request(step.request));
    const ready = record.responseReady.then(() => true);
    return Promise.race([ready, sleep(PATIENCE).then(() => false)]);
  },
  updateUI: async ({ options }, of, event) => event.updateUI(options),
  async until({ downloaded }, of) {
    await until(() => of.downloaded >= downloaded);
  },
  async settled(_, of) {
    await until(() => of.result !== "");
    return attributes(of);
  },
  async released(_, of) {
    await until(() => !of.recordsAvailable);
    return attributes(of);
  },
  progress: async (_, of) => heard.get(of).at(-1),
  async event() {
    await until(() => events.length);
    return events.shift();
  },
};

async function play(step, event) {
  const of = event?.registration ?? fetches.get(step.of ?? latest);
  return outcome(() => STEPS[step.do](step, of, event));
}

// The page is ready when its service worker is.
async function ready() {
  navigator.serviceWorker.addEventListener("message", ({ data }) => events.push(data));
  await navigator.serviceWorker.register("sw.js");
  await navigator.serviceWorker.ready;
}

async function handle(event, steps) {
  const told = {
    type: event.type,
    class: event.constructor.name,
    trusted: event.isTrusted,
    updatable: "updateUI" in event,
    registration: attributes(event.registration),
    steps: {},
  };
  for (const step of steps) {
    told.steps[step.as ?? step.do] = await play(step, event);
  }
  const pages = await clients.matchAll({ includeUncontrolled: true });
  for (const page of pages) if (page.url.startsWith(BASE)) page.postMessage(told);
}

function listen(steps) {
  for (const end of ["success", "fail", "abort", "click"]) {
    addEventListener(`backgroundfetch${end}`, (event) =>
      event.waitUntil(handle(event, steps)));
  }
}
