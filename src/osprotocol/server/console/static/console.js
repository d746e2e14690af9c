// The console's script. Every page works without it; it adds live updates, keys and small comforts.
// HTML only ever comes from this server, and is exchanged node by node.

const find = (query, root = document) => root.querySelector(query);
const all = (query, root = document) => [...root.querySelectorAll(query)];
const main = find("#main");
const mode = main?.dataset.live ?? "";
const signedIn = "cursor" in document.body.dataset;
const policy = globalThis.trustedTypes?.createPolicy("osprotocol", { createHTML: (text) => text });
const parse = (text) => new DOMParser().parseFromString(policy ? policy.createHTML(text) : text, "text/html");
const on = (...what) => document.addEventListener(...what);
const active = () => document.activeElement;
const place = () => new URL(location.href);
const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

function announce(text) {
  const region = find("#announce");
  if (region && region.textContent !== text) region.textContent = text;
}

// ---- times, in the reader's zone

const skew = signedIn ? Date.parse(document.body.dataset.now) - Date.now() : 0;
const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

function rough(seconds, nearly = 0) {
  const [name, size] = units.find(([, length]) => seconds / length + nearly >= 1) ?? units[3];
  return `${Math.floor(seconds / size + nearly)} ${name}`;
}

function ago(instant) {
  const seconds = Math.trunc((Date.now() + skew - instant) / 1000);
  if (Math.abs(seconds) < 5) return "just now";
  return seconds < 0 ? `in ${rough(-seconds, 0.04)}` : `${rough(seconds)} ago`;
}

function took(milliseconds) {
  if (milliseconds < 1000) return `${Math.max(0, Math.round(milliseconds))} ms`;
  if (milliseconds < 9950) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  const at = units.findIndex(([, size]) => seconds >= size);
  const rest = seconds % units[at][1];
  return rough(seconds) + (units[at + 1] && rest >= units[at + 1][1] ? ` ${Math.floor(rest / units[at + 1][1])} ${units[at + 1][0]}` : "");
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const hours = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
const format = (options) => new Intl.DateTimeFormat([], options);
const sameDay = format(hours);
const otherDay = format({ month: "short", day: "numeric", ...hours });
const zoned = format({ month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
const whole = format({ dateStyle: "full", timeStyle: "long" });

function localize(root) {
  const today = new Date().toDateString();
  for (const element of all("time[datetime]", root)) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    element.title = whole.format(moment);
    if ("ago" in element.dataset) say(element, ago(moment.getTime()));
    else if ("clock" in element.dataset) say(element, (element.dataset.clock ? zoned : moment.toDateString() === today ? sameDay : otherDay).format(moment));
  }
  for (const element of all("[data-since]", root)) say(element, took(Date.now() + skew - Date.parse(element.dataset.since)));
  for (const element of all("[data-until]", root)) {
    const left = Date.parse(element.dataset.until) - Date.now() - skew;
    say(element, left > 0 ? `${took(left)} left` : "over");
  }
  for (const element of all("[data-copy], [data-needs-script]", root)) element.hidden = false;
}

// ---- exchanging a page's content

const keyOf = (node) => node.id || node.dataset?.id || node.dataset?.number || "";
const isBusy = (node) => find("form[data-answer]", node) || node.contains(active()) || all("input, textarea, select", node).some((field) =>
  field.type === "checkbox" || field.type === "radio" ? field.checked !== field.defaultChecked
    : "defaultValue" in field && field.type !== "hidden" && field.value !== field.defaultValue);

function morphAttributes(from, to) {
  for (const { name, value } of to.attributes) {
    if (name !== "open" && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (name !== "open" && !to.hasAttribute(name)) from.removeAttribute(name);
  }
}

const fits = (from, to) => from && from.nodeType === to.nodeType && from.nodeName === to.nodeName && keyOf(from) === keyOf(to);

/** Make one tree like another; nodes that are the same stay, with focus and what was typed. */
function morph(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if ("keep" in from.dataset || ("guard" in from.dataset && isBusy(from))) return;
  morphAttributes(from, to);
  const keyed = new Map();
  for (const child of from.children) if (keyOf(child)) keyed.set(keyOf(child), child);
  let next = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const known = keyed.get(keyOf(wanted));
    if (known && known !== next && fits(known, wanted)) from.insertBefore(known, next);
    const here = known && fits(known, wanted) ? known : fits(next, wanted) ? next : null;
    if (here) {
      next = here.nextSibling;
      morph(here, wanted);
    } else {
      from.insertBefore(document.importNode(wanted, true), next);
    }
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    if (!(gone.nodeType === Node.ELEMENT_NODE && "guard" in gone.dataset && isBusy(gone))) gone.remove();
  }
}

/** The page at an address as it is now, or null. */
async function fragmentOf(address) {
  const url = new URL(address, location.href);
  url.searchParams.set("fragment", "1");
  const answer = await fetch(url, { signal: AbortSignal.timeout(10000) });
  const lost = answer.status === 404 ? "gone" : answer.redirected && new URL(answer.url).pathname === "/sign-in" && "out";
  if (lost) return setState(lost), null;
  if (!answer.ok) throw new Error(`${answer.status}`);
  const page = parse(await answer.text());
  const content = find("#main", page);
  if (!content) return null;
  localize(content);
  return { page, content };
}

function updateBadge(page, title = page.title) {
  const text = page.body.dataset.inbox ?? "";
  const badge = find("#inbox-count");
  if (badge) {
    const before = badge.hidden ? "" : badge.firstElementChild.textContent;
    badge.hidden = text === "";
    say(badge.firstElementChild, text);
    if (before !== text) announce(text ? `Inbox: ${text} waiting` : "Inbox: nothing waits");
  }
  document.title = (text && `(${text}) `) + title.replace(/^\([0-9+]+\) /, "");
}

// ---- what comes live

const asks = (events) => !events.length || events.some((event) => event.type.startsWith("request."));
const listeners = new Set();
/** Called with each batch of events; an empty one asks to look again at everything. */
const onEvents = (listener) => listeners.add(listener);
let cursor = Number(document.body.dataset.cursor ?? 0);
let state = "";
let lostAt = null;
const channel = "BroadcastChannel" in globalThis && signedIn ? new BroadcastChannel("osprotocol") : null;

const words = { live: "Live", wait: "Connecting", poll: "Every 10 s" };
let held = "";

function setState(now) {
  if (state === now || state === "out") return;
  state = now;
  lostAt = now === "live" ? null : lostAt ?? new Date();
  paint();
}

function paint() {
  const [badge, banner] = [find("#live"), find("#stale")];
  if (!badge) return;
  badge.hidden = false;
  badge.dataset.state = state;
  say(find(".live-word", badge), words[state] ?? "Not live");
  const since = lostAt && sameDay.format(lostAt);
  const text = held || ({
    off: `The server does not answer since ${since}; trying again… This page may be out of date.`,
    poll: `No live updates since ${since}. This page looks every 10 seconds.`,
    gone: "What this page shows is not there any more.",
    out: "You are signed out. Load the page again.",
  }[state] ?? "");
  banner.hidden = !text;
  banner.classList.toggle("is-held", Boolean(held));
  say(banner, text);
}

function deliver(events) {
  for (const listener of listeners) listener(events);
}

function receive(events, at) {
  cursor = Math.max(cursor, at);
  channel?.postMessage({ events, at });
  deliver(events);
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Until the stream breaks; two missing heartbeats count as broken. */
async function readStream() {
  const control = new AbortController();
  let watchdog = setTimeout(() => control.abort(), 15000);
  let end = "off";
  try {
    const answer = await fetch(`/api/v1/events?after=${cursor}`, {
      headers: { Accept: "text/event-stream", "Last-Event-ID": String(cursor) }, signal: control.signal, cache: "no-store",
    });
    if (answer.status === 401) return "out";
    if (answer.status < 500) end = "cut";
    if (!answer.ok) return end;
    tell("live");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return end;
      clearTimeout(watchdog);
      watchdog = setTimeout(() => control.abort(), 35000);
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      const events = [];
      let at = 0;
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/, 2)));
        if (fields.event === "reset") return "reset";
        if (fields.id) at = Number(fields.id);
        if (fields.data && !fields.event) events.push(JSON.parse(fields.data));
      }
      if (events.length) receive(events, at);
    }
  } catch {
    return control.signal.aborted ? "cut" : end;
  } finally {
    clearTimeout(watchdog);
    control.abort();
  }
}

function tell(now) {
  setState(now);
  channel?.postMessage({ state: now, at: cursor });
}

/** One window of a browser keeps the stream; the others hear from it. */
async function lead() {
  if (channel) channel.onmessage = ({ data }) => data.hello && channel.postMessage({ state, at: cursor });
  let failures = 0;
  for (;;) {
    const began = Date.now();
    const end = await readStream();
    if (end === "out") return tell("out");
    if (end === "reset") {
      const newest = await fragmentOf(location.href).catch(() => null);
      if (newest) cursor = Math.max(cursor, Number(newest.page.body.dataset.cursor));
      receive([], cursor);
    }
    failures = Date.now() - began > 5000 ? 0 : failures + 1;
    if (end === "off" || failures > 1) tell(end === "off" ? end : "poll");
    await pause(Math.min(10000, 250 * 2 ** Math.min(failures, 6)));
  }
}

function follow() {
  if (!channel) return;
  channel.onmessage = ({ data }) => {
    if (data.state) setState(data.state);
    if (data.events) deliver(data.events);
    else if (data.at > cursor) deliver([]);
    if (data.at) cursor = Math.max(cursor, data.at);
  };
  channel.postMessage({ hello: true });
}

// ---- keeping this page up to date

let wanted = false;
let running = false;
let lastTook = 0;

/** At most four times a second. */
function refreshSoon() {
  wanted = true;
  if (running || document.hidden) return;
  running = true;
  setTimeout(refresh, Math.max(250, lastTook * 3));
}

async function refresh() {
  wanted = false;
  const began = performance.now();
  try {
    const found = await fragmentOf(location.href);
    if (found) {
      updateBadge(found.page);
      if (mode === "runs") updateRuns(found.content);
      else if (mode && mode !== "none") morph(main, found.content);
    }
  } catch {
    if (state === "live") wanted = true;
  }
  lastTook = performance.now() - began;
  running = false;
  if (wanted) refreshSoon();
}

on("visibilitychange", () => !document.hidden && wanted && refreshSoon());

onEvents((events) => {
  if (mode === "run") {
    if (!events.length || events.some((event) => event.runId === main.dataset.run)) refreshSoon();
    else if (asks(events)) badgeSoon();
  } else if (mode === "all" || mode === "runs") refreshSoon();
  else if (asks(events)) badgeSoon();
});

let badgeTimer = 0;
function badgeSoon() {
  badgeTimer ||= setTimeout(async () => {
    badgeTimer = 0;
    const found = await fragmentOf("/settings").catch(() => null);
    if (found) updateBadge(found.page, document.title);
  }, 1000);
}

// ---- the list of runs

let waiting = null;
const boxes = () => all("#runs input[name=run]");

/** Rows stay where they are; tells how many came and went. */
function renew(rows, fresh) {
  const come = new Map([...fresh].map((row) => [row.dataset.id, row]));
  let gone = 0;
  for (const row of rows) {
    const now = come.get(row.dataset.id);
    row.classList.toggle("is-gone", !now);
    if (now) morph(row, now);
    else gone += 1;
    come.delete(row.dataset.id);
  }
  return [come.size, gone];
}

function updateRuns(content) {
  const table = find("#runs tbody");
  const fresh = find("#runs tbody", content);
  const tabs = find(".tabs", main);
  if (tabs) morph(tabs, find(".tabs", content));
  if (!table || !fresh) {
    if (Boolean(table) !== Boolean(fresh)) offer(content, fresh ? fresh.rows.length : table.rows.length);
    return;
  }
  const [come, gone] = renew(table.rows, fresh.rows);
  offer(content, (!place().searchParams.has("cursor") && come) || gone);
}

function offer(content, changes) {
  const button = find("#updates");
  waiting = changes ? content : null;
  if (!button) return;
  button.hidden = !changes;
  if (changes) {
    say(button, `Show ${plural(changes, "update")}`);
    announce(`${plural(changes, "update")} to the list of runs`);
  }
}

function applyUpdates() {
  if (!waiting) return;
  const picked = new Set(all("#runs [name=run]:checked").map((box) => box.value));
  morph(main, waiting);
  for (const box of boxes()) box.checked = picked.has(box.value);
  offer(null, 0);
  countPicked();
}

function countPicked() {
  const picked = all("#runs [name=run]:checked").length;
  const label = find("#selected-count");
  if (label) say(label, picked ? `${plural(picked, "run")} selected` : "Select runs to act on many");
  const everything = find("#select-all") ?? {};
  everything.checked = picked > 0 && picked === boxes().length;
  everything.indeterminate = picked > 0 && !everything.checked;
}

// ---- following a log

async function followLog() {
  const log = find("#log");
  const box = find("#follow");
  if (!log || !box || "still" in log.dataset) return;
  log.scrollTop = log.scrollHeight;
  for (;;) {
    await pause(1000);
    // The box goes away with the end of the run: what is written last is still fetched.
    if (document.hidden || (box.isConnected && !box.checked)) continue;
    const address = place();
    address.searchParams.set("after", log.dataset.after);
    const found = await fragmentOf(address).catch(() => null);
    if (!found) continue;
    const before = log.dataset.after;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    for (const line of all(".log-line", found.content)) {
      if (Number(line.dataset.number) <= Number(log.dataset.after)) continue;
      log.append(document.importNode(line, true));
      log.dataset.after = line.dataset.number;
    }
    if (log.childElementCount) find("[data-log-empty]")?.remove();
    while (log.childElementCount > 5000) log.firstElementChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
    if ("final" in found.content.dataset && before === log.dataset.after) return;
  }
}

// ---- links, buttons, forms

async function swap(address, isNew) {
  const found = await fragmentOf(address).catch(() => null);
  if (!found) return location.assign(address);
  if (isNew) history.pushState(null, "", address);
  morph(main, found.content);
  updateBadge(found.page);
  const target = location.hash && find(location.hash);
  if (target && isNew) {
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "nearest" });
  }
}

addEventListener("popstate", () => find("[data-swap]") && swap(location.href, false));

on("click", async (event) => {
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  const link = event.target.closest("a[data-swap]");
  if (link && plain) {
    event.preventDefault();
    return swap(link.href, true);
  }
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const text = find(copy.dataset.copy)?.textContent ?? "";
    await navigator.clipboard?.writeText(text).then(() => announce("Copied"), () => announce("Copying is not allowed here"));
  }
  if (event.target.closest("#updates")) applyUpdates();
  if (event.target.closest("[data-sheet]") && plain) {
    event.preventDefault();
    find("#sheet")?.showModal();
  }
  for (const menu of all("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

let lastPicked = null;
on("click", (event) => {
  if (event.target.id === "select-all") {
    for (const box of boxes()) box.checked = event.target.checked;
  } else if (event.target.matches?.("#runs input[name=run]")) {
    const [here, there] = [event.target, lastPicked].map((box) => boxes().indexOf(box));
    if (event.shiftKey && there >= 0) {
      for (const box of boxes().slice(Math.min(here, there), Math.max(here, there) + 1)) box.checked = event.target.checked;
    }
    lastPicked = event.target;
  } else return;
  countPicked();
});

on("change", (event) => event.target.closest("[data-theme-form]")?.requestSubmit());

// ---- keys

const typing = (element) => element?.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");
let prefix = 0;

function step(by) {
  const rows = all("[data-row]", main).filter((row) => row.getClientRects().length);
  const here = rows.indexOf(active());
  const next = here < 0 && by < 0 ? rows.length - 1 : here + by;
  rows[Math.min(Math.max(next, 0), rows.length - 1)]?.focus();
}

const press = (selector) => {
  const element = find(selector);
  element?.focus();
  return element;
};

const keys = {
  j: () => step(1),
  k: () => step(-1),
  x: () => active().closest("tr, li")?.querySelector("input[type=checkbox]")?.click(),
  "/": () => press("[data-search]"),
  a: () => press("button[data-key=a]"),
  r: () => press("button[data-key=r]"),
  p: () => press("[data-act=pause]")?.click(),
  u: () => applyUpdates(),
  "?": () => find("#sheet")?.showModal(),
};

on("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const at = active();
    const form = at?.closest("form[method=post]");
    if (!form) return;
    event.preventDefault();
    if (at.matches("button[type=submit]")) return form.requestSubmit(at);
    const buttons = all("button[type=submit]:not([tabindex='-1'], [formnovalidate])", form).filter((button) => !button.disabled);
    // With a choice to make, the choice is made by going to its button.
    if (buttons.length === 1) form.requestSubmit(buttons[0]);
    else buttons[0]?.focus();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
  if (event.key === "Escape") {
    const at = active();
    const menu = at?.closest("details.menu[open]");
    if (menu) find("summary", menu).focus(), (menu.open = false);
    else if (typing(at)) at.blur();
    else (find("[data-close]") ?? find("[data-back]"))?.click();
    return;
  }
  if (typing(active())) return;
  if (event.key === "g") {
    prefix = Date.now();
    return;
  }
  const after = Date.now() - prefix < 1500 && find(`[data-key="g ${CSS.escape(event.key)}"]`);
  prefix = 0;
  if (after) {
    event.preventDefault();
    after.click();
  } else if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});

// ---- beginning

localize(document);
say(find("#zone"), format().resolvedOptions().timeZone);
setInterval(() => document.hidden || localize(main), 5000);
find("[data-focus]")?.focus();
const address = place();
if (address.searchParams.has("done")) {
  address.searchParams.delete("done");
  history.replaceState(null, "", address);
}
followLog();
if (signedIn) {
  setState("wait");
  setInterval(() => state !== "live" && state !== "wait" && state !== "out" && deliver([]), 10000);
  follow();
  if (navigator.locks) navigator.locks.request("osprotocol-stream", lead);
  else lead();
}

// ---- requests, inbox, forms

const turnOff = (root) => all("button", root).forEach((button) => { button.disabled = true; });
const onRequests = (look) => onEvents((events) => asks(events) && look());

// Nobody gets buttons for something else than what they read.
async function checkAsk(ask) {
  const answer = await fetch(`/api/v1/requests/${encodeURIComponent(ask.dataset.request)}`).catch(() => null);
  if (!answer?.ok) return;
  const { revision, digest, status, responses, kind } = await answer.json();
  const mark = ask.dataset.mark;
  if (`${revision}:${digest}:${status}:${responses.length}` === mark) return;
  ask.dataset.stale = "yes";
  const by = responses.length > mark.split(":").pop() && responses.at(-1).by;
  const did = kind === "approval" ? "voted" : "answered";
  const who = !by ? "" : by === document.body.dataset.me ? `You ${did} in another tab.` : `${by} ${did} meanwhile.`;
  say(find("[data-told]", ask), status !== "open" ? `It is now ${status}. ${who}` : who || "What is asked is different now.");
  turnOff(ask);
  find("[data-changed]", ask).hidden = false;
}
const checkAsks = () => document.hidden || all("[data-mark]:has(form[data-answer])").forEach(checkAsk);
onRequests(checkAsks);
addEventListener("focus", checkAsks);

// Who has opened everything has seen it.
on("toggle", ({ target }) => {
  target.dataset.opened = "";
  const ask = target.closest("[data-mark]");
  const box = ask && find("[data-viewed]", ask);
  if (box && !find("[data-folded]:not([data-opened])", ask)) box.checked = true;
}, true);

// A form is sent once, and only to a server that answers: nothing typed gets lost.
const checking = new WeakSet();
let sure = null;
on("submit", async (event) => {
  const { target: form, submitter } = event;
  if (form.method !== "post") return;
  const unseen = submitter?.value === "approve" && find("[data-viewed]:not(:checked)", form);
  if (unseen) unseen.focus();
  if (unseen || form.dataset.sent || form.closest("[data-stale]")) return event.preventDefault();
  if (signedIn && sure !== form) {
    event.preventDefault();
    if (checking.has(form)) return;
    checking.add(form);
    const token = await freshToken();
    checking.delete(form);
    if (!token) return hold();
    form.elements.csrf.value = token;
    sure = form;
    form.requestSubmit(submitter);
    sure = null;
  } else if ("submit" in form.dataset) {
    form.dataset.sent = "yes";
    setTimeout(turnOff, 0, form);
  }
});

const freshToken = async () => (await fragmentOf("/settings").catch(() => null))?.page.body.dataset.csrf;

async function hold() {
  const isFirst = !held.includes("kept");
  held = state === "out" ? "You are signed out; your text is kept. Sign in in another window, then press again."
    : "The server does not answer. Nothing was sent; your text is kept; trying again…";
  paint();
  if (!isFirst) return;
  while (!(await freshToken())) await pause(2000);
  held = "The server answers again. Nothing was sent yet: press once more.";
  paint();
}
addEventListener("pageshow", (event) => event.persisted && find("[data-sent]") && location.reload());

// A new time is in the reader's own zone.
on("input", ({ target }) => {
  const zone = target.closest(".moment")?.querySelector("input[type=text]");
  if (target === zone) zone.dataset.typed = "yes";
  else if (zone && target.type === "datetime-local" && !target.defaultValue && !zone.dataset.typed) {
    zone.value = new Date(target.value || Date.now()).toString().replace(/.*GMT(...)(..).*/, "$1:$2");
  }
});

// The inbox: what is new waits for a click, what is over stays.
let news = null;
let looking = 0;
async function look() {
  looking = 0;
  const at = place();
  const shown = find(".pane .question");
  if (shown) at.searchParams.set("at", shown.dataset.request);
  const found = await fragmentOf(at).catch(() => null);
  if (!found) return;
  if (!find(".asks")) return morph(main, found.content);
  morph(find(".tabs"), find(".tabs", found.content));
  news = find(".asks", found.content);
  const [come] = renew(find(".asks").children, all("li[data-id]", found.content));
  const button = find("#news");
  button.hidden = !come;
  say(button, plural(come, "new question"));
}
if (find("#news")) {
  onRequests(() => { looking ||= setTimeout(look, 300); });
  find("#news").onclick = keys.u = () => news && (morph(find(".asks"), news), (find("#news").hidden = true));
}
