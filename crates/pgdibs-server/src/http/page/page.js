// The life of the page: it listens to /v1/events, fetches the page again when something happened, and replaces what changed.
// Buttons call the routes of the API after a confirmation. No text from the daemon is ever parsed as HTML outside of its own page.

const element = (id) => document.getElementById(id);
// Not `location.href`, which may carry a user and a password, with which `fetch` refuses to call.
const url = (path) => new URL(path, location.origin);

// ---- Replace what changed

const keyOf = (node) => node?.nodeType === Node.ELEMENT_NODE ? node.dataset.key : undefined;

/** Whether two rows differ in nothing but their times, which go on by themselves. */
const isSame = (old, fresh) => old.dataset?.same !== undefined && old.dataset.same === fresh.dataset?.same;

/** Makes `old` equal to `fresh`, node by node, so that focus, scroll positions and selections stay. */
function morph(old, fresh) {
  if (isSame(old, fresh) || old.isEqualNode(fresh)) return;
  if (old.nodeName !== fresh.nodeName) return void old.replaceWith(fresh);
  if (old.nodeType !== Node.ELEMENT_NODE) return void (old.data = fresh.data);
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (old.nodeName === "TIME") return;
  const children = [...fresh.childNodes];
  const wanted = new Set(children.map(keyOf));
  const known = new Map([...old.childNodes].filter(keyOf).map((child) => [keyOf(child), child]));
  let next = old.firstChild;
  for (const child of children) {
    while (keyOf(next) && !wanted.has(keyOf(next))) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
    const key = keyOf(child);
    const match = key ? known.get(key) : next && !keyOf(next) ? next : undefined;
    if (match === undefined) {
      old.insertBefore(child, next);
      continue;
    }
    if (match === next) next = next.nextSibling;
    else old.insertBefore(match, next);
    morph(match, child);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

// A row with all of it that changes but its times. Free text has no `<` here, because the daemon escapes it.
const ROW = /(<tr data-key="([^"]*)" data-same="([^"]*)")[^]*?<\/tr>/g;

/** A page without what is in the rows that are as before: most of hundreds of rows. */
function shortened(html) {
  const rows = new Map([...document.querySelectorAll("[data-same]")].map((row) => [row.dataset.key, row.dataset.same]));
  return html.replace(ROW, (row, tag, key, same) => (rows.get(key) === same ? `${tag}></tr>` : row));
}

function update(html) {
  performance.mark("update-begins");
  const fresh = new DOMParser().parseFromString(shortened(html), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const replacement = fresh.getElementById(part.id);
    if (replacement) morph(part, replacement);
  }
  document.title = fresh.title;
  setClock();
  showClocks();
  performance.measure("update", "update-begins");
}

// ---- Times that go on

let ahead = 0;

/** The difference between this clock and the server's, at the moment the page was made. */
function setClock() {
  ahead = Date.now() - Date.parse(element("daemon").dataset.taken);
}

function duration(seconds) {
  const whole = Math.floor(Math.max(seconds, 0));
  if (whole < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

// Made once, because making it takes longer than all its use.
const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

/** The times of events in the reader's time zone; the page has them in UTC. */
function showClocks() {
  for (const time of document.querySelectorAll("time[data-clock]")) {
    const text = CLOCK.format(new Date(time.dateTime));
    if (time.firstChild?.data !== text) time.textContent = text;
  }
}

function tick() {
  const now = Date.now() - ahead;
  showClocks();
  for (const time of document.querySelectorAll("time[data-since], time[data-until]")) {
    const at = Date.parse(time.dateTime);
    const text = duration((time.hasAttribute("data-since") ? now - at : at - now) / 1000);
    if (time.firstChild?.data !== text) time.textContent = text;
  }
}

// ---- Live

// Events that come close together cause one update, and there is at most one in this time.
const PAUSE = 500;
// What causes no event, such as the number of connections, is read this often.
const AT_LEAST = 10_000;
const RETRY = 1000;

let events;
let timer;
let fetching = false;
let missed = false;
let updated = 0;

function show(state, text) {
  const live = element("live");
  if (live.dataset.state === state) return;
  live.dataset.state = state;
  live.textContent = text;
}

function refresh(after = Math.max(50, updated + PAUSE - Date.now())) {
  missed = true;
  if (fetching) return;
  clearTimeout(timer);
  timer = setTimeout(fetchPage, after);
}

async function fetchPage() {
  fetching = true;
  missed = false;
  try {
    const answer = await fetch(url("/"), { headers: { "Cache-Control": "no-cache" } });
    if (!answer.ok) throw new Error(`the daemon answered ${answer.status}`);
    update(await answer.text());
  } catch {
    show("reconnecting", "reconnecting");
  }
  updated = Date.now();
  fetching = false;
  if (document.hidden) return;
  if (missed) refresh();
  else timer = setTimeout(fetchPage, AT_LEAST);
}

/** Follows the events after that with the id `since`, or those from now on. */
function connect(since) {
  events?.close();
  events = new EventSource(url(since ? `/v1/events?since=${since}` : "/v1/events"));
  const opened = events;
  events.onopen = () => {
    show("live", "live");
    refresh(since ? AT_LEAST : 0);
  };
  // A browser gives up when the answer is an error, as from a daemon that starts; so each try is a new one.
  events.onerror = () => {
    if (opened !== events) return;
    show("reconnecting", "reconnecting");
    events.close();
    if (!document.hidden) setTimeout(() => opened === events && connect(), RETRY);
  };
  for (const kind of element("live").dataset.kinds.split(" ")) events.addEventListener(kind, () => refresh());
}

// A hidden page closes its connection: a browser opens at most six to one daemon, and each page uses one.
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) return connect();
  events?.close();
  show("off", "paused");
});

// ---- Buttons

function say(text, failed = false) {
  const outcome = element("outcome");
  outcome.textContent = text;
  outcome.className = failed ? "bad" : "";
}

/** Calls a route; says what came of it. */
async function call(method, path, body, done) {
  try {
    const answer = await fetch(url(path), {
      method,
      headers: body ? { "Content-Type": "application/json" } : {},
      body: body && JSON.stringify(body),
    });
    if (!answer.ok) {
      const problem = await answer.json().catch(() => ({}));
      throw new Error(problem.detail ?? `the daemon answered ${answer.status}`);
    }
    say(done(answer.status === 204 ? {} : await answer.json()));
  } catch (error) {
    say(error.message, true);
  }
  refresh(0);
}

const ACTIONS = {
  release: {
    title: (name) => `Release ${name}?`,
    text: "Its holder loses the database at once: sessions end, the login stops working, the database is dropped.",
    yes: "Release",
    isBad: true,
    run: (name, lease) => call("DELETE", `/v1/leases/${encodeURIComponent(lease)}`, undefined, () => `Released ${name}.`),
  },
  keep: {
    title: (name) => `Keep ${name}?`,
    text: "When its lease ends or is reset, the database stays as it is, under another name and with a login of its own.",
    yes: "Keep",
    run: (name, lease) =>
      call(
        "POST",
        `/v1/leases/${encodeURIComponent(lease)}/keep`,
        { seconds: Number(element("keep-seconds").value), reason: element("keep-reason").value },
        (kept) => `${name} will stay as ${kept.kept_database}.`,
      ),
  },
  drop: {
    title: (name) => `Drop ${name}?`,
    text: "The kept database and its login are deleted.",
    yes: "Drop",
    isBad: true,
    run: (name) => call("DELETE", `/v1/databases/${encodeURIComponent(name)}`, undefined, () => `${name} is being dropped.`),
  },
};

let confirmed;

function confirm(kind, { key, name }) {
  const action = ACTIONS[kind];
  element("confirm-title").textContent = action.title(name);
  element("confirm-text").textContent = action.text;
  element("confirm-yes").textContent = action.yes;
  element("confirm-yes").className = action.isBad ? "bad" : "";
  element("confirm-keep").hidden = kind !== "keep";
  element("keep-reason").value = "";
  // Copies: the row may be another one when the reader has decided.
  confirmed = () => action.run(name, key);
  element("confirm").returnValue = "";
  element("confirm").showModal();
}

element("confirm-no").addEventListener("click", () => element("confirm").close());
element("confirm").addEventListener("close", () => {
  if (element("confirm").returnValue === "yes") confirmed();
});

/** Copies a text; on a page that is neither on loopback nor behind TLS a browser has no clipboard but that of a selection. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("the browser did not let the page copy");
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (!button) return;
  if (button.dataset.do !== "copy") return confirm(button.dataset.do, button.closest("tr").dataset);
  const text = button.dataset.from ? element(button.dataset.from).textContent : button.dataset.text;
  copy(text).then(() => say(`Copied: ${text.split("\n")[0]}`), (error) => say(error.message, true));
});

// ---- Start

setClock();
setInterval(tick, 1000);
// The page is as fresh as its last event.
if (!document.hidden) connect(element("daemon").dataset.last);
