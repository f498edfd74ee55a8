// The page works without this. It refreshes without disturbing what the reader does, copies, and knows three keys.
const root = document.documentElement;
const words = JSON.parse(root.dataset.words);
const say = (text, values) => words[text].replace(/\{(\w+)\}/g, (_, name) => values[name]);
const byId = (id) => document.getElementById(id);

// Ages -------------------------------------------------------------------------------------------
// The server's clock rules: a wrong clock here must not make a job look late.
let skew = 0;
const rendered = () => Date.parse(root.dataset.now);
const now = () => (root.dataset.frozen === undefined ? Date.now() + skew : rendered());

function span(seconds) {
  for (const [unit, text] of [[86400, "{n} d"], [3600, "{n} h"], [60, "{n} min"], [1, "{n} s"]]) {
    if (seconds >= unit || unit === 1) return say(text, { n: Math.floor(seconds / unit).toLocaleString("en") });
  }
}

function distance(element) {
  const seconds = (now() - Date.parse(element.dateTime)) / 1000;
  const form = element.dataset.rel;
  if (form === "age") return span(Math.max(0, seconds));
  if (seconds < 0) return say("in {x}", { x: span(-seconds) });
  return say(form === "late" ? "late by {x}" : "{x} ago", { x: span(seconds) });
}

function setText(node, text) {
  if (node.data !== undefined ? node.data !== text : node.textContent !== text) {
    if (node.firstChild && node.firstChild.nodeType === 3 && node.childNodes.length === 1) node.firstChild.data = text;
    else if (node.nodeType === 3) node.data = text;
    else node.textContent = text;
  }
}

const age = () => document.querySelectorAll("time[data-rel]").forEach((each) => setText(each, distance(each)));

// Refresh ----------------------------------------------------------------------------------------
const period = Number(root.dataset.live) * 1000;
let etag = null;
let newest = null; // the document that came last, for rows that wait until the reader asks for them
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium", timeZone: root.dataset.zone });
let last = clock.format(rendered());
let waiting = 0;

function updated() {
  last = clock.format(now());
  tell(say("Updated {x}", { x: last }), false);
  age();
}

function tell(text, stale) {
  setText(byId("live-text"), text);
  byId("live").classList.toggle("stale", stale);
}

function refresh() {
  clearTimeout(waiting);
  // Not fetch: a document that XMLHttpRequest has parsed itself needs no text handed to a parser,
  // which trusted types would rightly refuse.
  const request = new XMLHttpRequest();
  request.open("GET", location.href);
  request.responseType = "document";
  request.timeout = 15000;
  if (etag) request.setRequestHeader("If-None-Match", etag);
  request.onloadend = () => {
    if (request.status === 200 && request.response) {
      etag = request.getResponseHeader("ETag");
      update(request.response);
    } else if (request.status === 401) {
      return location.reload(); // the token has ended: the form says so, and leads back here
    } else if (request.status !== 304) {
      tell(say("Not updated since {x}", { x: last }), true);
      return plan();
    }
    const date = Date.parse(request.getResponseHeader("Date"));
    if (date && Math.abs(date - Date.now()) > 5000) skew = date - Date.now();
    updated();
    plan();
  };
  request.send();
}

function plan() {
  clearTimeout(waiting);
  if (period && !document.hidden) waiting = setTimeout(refresh, period);
}

function update(fresh) {
  newest = fresh;
  root.dataset.now = fresh.documentElement.dataset.now;
  const before = byId("summary")?.textContent;
  const waits = morph(byId("main"), fresh.getElementById("main"));
  document.title = fresh.title;
  byId("live-apply").hidden = !waits;
  const after = byId("summary")?.textContent;
  if (before !== after && byId("summary")?.dataset.news !== undefined) setText(byId("news"), say("Now: {x}", { x: after.trim() }));
  ready(); // for buttons that are new
}

const keyOf = (node) => (node.nodeType === 1 ? node.id || "" : "");
const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

// Make `old` say what `fresh` says, keeping its elements, and with them focus, selection, scroll and what is open.
// Rows of a list are brought up to date in their places; whether any came, went or moved is returned.
function morph(old, fresh) {
  if (old.nodeType !== 1) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return false;
  }
  attributes(old, fresh);
  if (old.matches("[data-rows] > tbody")) return rows(old, fresh);
  let waits = false;
  const wanted = [...fresh.childNodes];
  let here = old.firstChild;
  for (const each of wanted) {
    if (!here || !alike(here, each)) {
      const found = keyOf(each) && [...old.children].find((child) => child.id === keyOf(each));
      if (!found) {
        old.insertBefore(document.importNode(each, true), here);
        continue;
      }
      while (here !== found) here = drop(here);
    }
    waits = morph(here, each) || waits;
    here = here.nextSibling;
  }
  while (here) here = drop(here);
  return waits;
}

function drop(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

function rows(old, fresh) {
  const wanted = new Map([...fresh.rows].map((row) => [row.id, row]));
  let waits = [...old.rows].map((row) => row.id).join() !== [...wanted.keys()].join();
  for (const row of old.rows) {
    const each = wanted.get(row.id);
    if (each) morph(row, each);
    row.classList.toggle("gone", !each);
  }
  return waits;
}

// What the reader or this script sets, by element. `hidden` is this script's everywhere.
const OWN = { DETAILS: ["open", "hidden"], INPUT: ["value", "hidden"], OPTION: ["selected", "hidden"] };

function attributes(old, fresh) {
  const own = OWN[old.nodeName] ?? ["hidden"];
  for (const { name, value } of [...fresh.attributes]) {
    if (!own.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!own.includes(name) && !fresh.hasAttribute(name) && name !== "class") old.removeAttribute(name);
  }
}

// Now the reader acted: the list as it is.
function apply() {
  const tables = document.querySelectorAll("[data-rows] > tbody");
  const fresh = newest.querySelectorAll("[data-rows] > tbody");
  tables.forEach((table, place) => {
    if (!fresh[place]) return;
    const known = new Map([...table.rows].map((row) => [row.id, row]));
    table.replaceChildren(...[...fresh[place].rows].map((row) => known.get(row.id) ?? document.importNode(row, true)));
    for (const row of table.rows) row.classList.remove("gone");
  });
  byId("live-apply").hidden = true;
  byId("main").focus();
  ready();
}

// Copy, keys, the browser's zone -----------------------------------------------------------------
function ready() {
  for (const each of document.querySelectorAll(".copy")) each.hidden = false;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("button[data-copy]");
  if (!button) return;
  const text = byId(button.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
    setText(button, words["Copied"]);
    setTimeout(() => setText(button, words["Copy"]), 2000);
  } catch { // no permission, or no TLS: select it, so that the reader's own keys copy it
    getSelection().selectAllChildren(byId(button.dataset.copy));
  }
});

let cameFrom = null;
document.addEventListener("keydown", (event) => {
  const field = event.target.closest?.("input, select, textarea");
  if (event.key === "/" && !field && !event.ctrlKey && !event.metaKey && !event.altKey && byId("search")) {
    event.preventDefault();
    cameFrom = document.activeElement;
    byId("search").focus();
    byId("search").select();
  } else if (event.key === "Escape") {
    const open = event.target.closest?.("details[open]") ?? document.querySelector(".menu[open]");
    if (open) {
      open.open = false;
      open.querySelector("summary").focus();
    } else if (field?.id === "search") {
      const to = cameFrom && cameFrom !== document.body ? cameFrom : byId("main");
      to.focus({ preventScroll: true });
    }
  }
});

function offerZone() {
  const zones = byId("zone");
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zones || !here) return;
  const known = [...zones.options].find((each) => each.value === here);
  if (known) return;
  zones.add(new Option(say("This browser: {x}", { x: here }), here));
}

ready();
offerZone();
document.querySelector(".lanes")?.scrollTo({ left: 9e9 }); // a phone shows what runs now first
if (byId("live")) {
  byId("live").hidden = false;
  byId("live-apply").addEventListener("click", apply);
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(waiting) : period && refresh()));
  addEventListener("jobstore:refresh", refresh); // for whoever wants it now
  addEventListener("pageshow", (event) => event.persisted && refresh()); // back to a page that the browser kept
  // A page out of the browser's cache is older than it says, or this clock is wrong: the answer's Date tells.
  if (Math.abs(rendered() - now()) > 5000) refresh();
  else updated();
  plan();
  setInterval(age, 10000);
}
