// Live updates: the gateway's server-sent events say what has changed, and what is shown
// of that is asked for again, rendered there. Nothing moves: rows change in their place,
// and new ones are announced until somebody asks for them.

const body = document.body;
const stream = body.dataset.stream;
const onList = body.dataset.live === "list";
const onPage = body.dataset.live === "page"; // of figures: shown anew every few seconds
const LEAST_MS = 500; // between two requests for what has changed
const POLL_MS = 2000; // where progress is not told: too many fetches are active
const SPEED_MS = 6000; // over which the speed is told
const PAGE_MS = 5000; // between two looks at figures
const ANNOUNCE_MS = 5000;
const PAUSED = "bgfetch-paused";

const samples = new Map(); // uid -> what was shown lately: [{moved, at}]
const changed = new Set(); // uids
const fresh = new Set(); // uids of fetches that were registered since the page was made
let source = null;
let client = "";
let asking = false;
let timer = 0;
let lately = 0;

// What is shown

function shown() {
  return [...document.querySelectorAll("[data-fetch]")];
}

function uidOf(element) {
  return element.dataset.fetch.split("/")[1];
}

function isActive(element) {
  return !["succeeded", "failed", "aborted"].includes(element.dataset.look);
}

function note() {
  for (const element of shown()) {
    const list = samples.get(uidOf(element)) ?? [];
    const sample = { moved: Number(element.dataset.moved), at: Number(element.dataset.at) };
    if (list.at(-1)?.at !== sample.at) list.push(sample);
    while (list.length > 2 && sample.at - list[1].at > SPEED_MS) list.shift();
    samples.set(uidOf(element), list);
  }
  for (const field of document.querySelectorAll("input[name=client]")) field.value = client;
}

function seen(uid) {
  const first = samples.get(uid)?.[0];
  return first ? `${first.moved}-${first.at}` : "";
}

// What has changed

function changes(uid) {
  changed.add(uid);
  soon();
}

export function refresh(uid) {
  if (uid) changed.add(uid);
  else for (const element of shown()) changed.add(uidOf(element));
  soon();
}

function soon() {
  if (timer || asking || document.hidden) return;
  timer = setTimeout(ask, Math.max(0, lately + LEAST_MS - Date.now()));
}

async function ask() {
  timer = 0;
  const looked = shown().filter((element) => changed.has(uidOf(element)));
  changed.clear();
  if (!looked.length && !fresh.size && !onPage) return;
  asking = true;
  lately = Date.now();
  const focused = document.activeElement?.closest?.("[data-fetch]")?.id;
  try {
    await (onList ? askRows(looked) : askPage());
  } finally {
    asking = false;
    lately = Date.now();
    if (changed.size) soon();
  }
  // What had the focus may be gone: an ended fetch has no button to abort it.
  if (focused && document.activeElement === body) {
    document.querySelector(`#${focused} :is(h1 button, h2 a)`)?.focus({ preventScroll: true });
  }
  note();
}

function askRows(looked) {
  const query = new URLSearchParams(location.search);
  query.delete("after");
  for (const element of looked) query.append("of", `${element.dataset.fetch}-${seen(uidOf(element))}`);
  const before = new Map(looked.map((element) => [element.id, element.dataset.look]));
  return htmx.ajax("GET", `/fetches/rows?${query}`, { target: "#rows", swap: "none" }).then(() => {
    for (const [id, look] of before) tellEnd(document.getElementById(id), look);
  });
}

function askPage() {
  const address = new URL(location.href);
  const card = document.querySelector(".card");
  const look = card?.dataset.look;
  if (card) address.searchParams.set("seen", seen(uidOf(card)));
  return htmx
    .ajax("GET", address.pathname + address.search, { target: "#main", select: "#main", swap: "outerMorph" })
    .then(() => tellEnd(document.querySelector(".card"), look));
}

// What is told to those who do not see it

let pending = [];
let saying = 0;

export function announce(text) {
  pending.push(text);
  if (saying) return;
  const say = () => {
    saying = 0;
    if (!pending.length) return;
    document.getElementById("announcer").textContent = pending.slice(-3).join(". ");
    pending = [];
    saying = setTimeout(say, ANNOUNCE_MS);
  };
  say();
}

function tellEnd(element, look) {
  if (!element || element.dataset.look === look) return;
  const name = element.querySelector(":is(h1, h2)").textContent.trim();
  announce(`${name}: ${element.querySelector(".chip").textContent.trim()}`);
}

// What happens

function heard(message) {
  const told = JSON.parse(message.data);
  const about = told.registration ?? told;
  const here = shown().some((element) => uidOf(element) === about.uid);
  if (message.type === "registered" && onList && !here) return news(about);
  if (here) changes(about.uid);
}

function news(about) {
  const query = new URLSearchParams(location.search);
  const tab = query.get("state") ?? "all";
  const belongs = tab === "all" || tab === (about.paused ? "paused" : "active");
  if (!belongs || query.get("q")) return;
  fresh.add(about.uid);
  const link = document.getElementById("news");
  link.textContent = `${fresh.size} new: show`;
  link.hidden = false;
  announce(`${fresh.size} new ${fresh.size === 1 ? "fetch" : "fetches"}`);
  soon();
}

function openwindow(message) {
  const told = JSON.parse(message.data);
  if (!onList && body.dataset.uid === told.uid) {
    const address = new URL(location.href);
    address.searchParams.set("clicked", told.event);
    history.replaceState(null, "", address);
    return changes(told.uid);
  }
  const [line, link] = [document.createElement("p"), document.createElement("a")];
  line.append("The service worker opens a window: ", link);
  link.textContent = told.url;
  if (/^https?:/i.test(told.url)) link.href = told.url;
  link.rel = "noopener noreferrer";
  link.target = "_blank";
  document.getElementById("windows").append(line);
}

// The connection

const button = document.getElementById("live");

function paused() {
  return sessionStorage.getItem(PAUSED) === "1";
}

function show(state) {
  const words = { live: "Live", away: "Connecting", paused: "Paused" };
  button.dataset.state = state;
  document.getElementById("live-word").textContent = words[state];
  button.setAttribute("aria-pressed", String(state === "paused"));
}

function connect() {
  if (source || paused() || document.hidden) return;
  if (!stream) return show("live");
  show("away");
  source = new EventSource(stream);
  source.addEventListener("client", (message) => {
    client = JSON.parse(message.data).client;
    show("live");
    note();
    refresh(); // what happened while nobody listened
  });
  source.addEventListener("openwindow", openwindow);
  source.addEventListener("error", () => show("away"));
  const types = ["success", "fail", "abort", "click"].map((type) => `backgroundfetch${type}`);
  for (const type of ["registered", "paused", "resumed", "progress", ...types]) {
    source.addEventListener(type, heard);
  }
}

function disconnect() {
  source?.close();
  source = null;
}

function every(milliseconds, look) {
  setInterval(() => {
    if (!document.hidden && !paused()) look();
  }, milliseconds);
}

if (stream || onPage) {
  button.hidden = false;
  show(paused() ? "paused" : "away");
  button.addEventListener("click", () => {
    sessionStorage.setItem(PAUSED, paused() ? "0" : "1");
    if (paused()) {
      disconnect();
      show("paused");
    } else connect();
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  if (onPage) every(PAGE_MS, soon);
  if (body.dataset.poll) {
    every(POLL_MS, () => shown().filter(isActive).forEach((element) => changes(uidOf(element))));
  }
  note();
  connect();
}
