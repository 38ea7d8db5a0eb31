// What the server streams, put on the page. All text from the cluster goes in as text, never as
// markup: ids and messages are whatever users make of them.

const SAMPLES = 150;
// In milliseconds: a sample comes every two seconds, or five where a node does not answer.
const STALE = 10000;
const SORTS = {
  queue: (it) => it.queued,
  "handler runs for": (it) => it.handling?.micros ?? 0,
  "messages a second": (it) => it.handled_per_second ?? 0,
  "share of the time": (it) => it.busy ?? 0,
};

const state = { samples: [], sort: "queue", view: "overview", asked: 0 };
const byId = (id) => document.getElementById(id);

function element(name, content = [], attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...[content].flat());
  return made;
}

// What stands between backquotes is code.
function prose(text) {
  return text.split("`").map((part, at) => (at % 2 ? element("code", part) : part));
}

// Figures for people.

function rate(value) {
  if (value === null || value === undefined) return "";
  if (value >= 999950) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 9995) return `${(value / 1e3).toFixed(1)}k`;
  return value >= 10 || value === 0 ? value.toFixed(0) : value.toFixed(1);
}

function time(micros) {
  if (micros === null || micros === undefined) return "";
  const seconds = Math.floor(micros / 1e6);
  if (micros < 1e3) return `${micros} µs`;
  if (micros < 1e4) return `${(micros / 1e3).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.floor(micros / 1e3)} ms`;
  if (seconds < 60) return `${(micros / 1e6).toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${seconds % 60}s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h ${Math.floor((seconds % 3600) / 60)}m`;
  return `${Math.floor(seconds / 86400)}d ${Math.floor((seconds % 86400) / 3600)}h`;
}

const whole = (value) => (value === null || value === undefined ? "" : value.toLocaleString("en"));
const percent = (value) =>
  value === null || value === undefined ? "" : `${Math.round(Math.min(value, 1) * 100)} %`;

// Tables: columns are [head, cell, is a number, is bad].

function table(target, columns, rows, empty) {
  const heads = columns.map(([head, , number]) => element("th", head, { class: number && "number" }));
  const cells = (row) =>
    columns.map(([, cell, number, bad]) =>
      element("td", cell(row) ?? "", {
        class: [number && "number", bad?.(row) && "bad"].filter(Boolean).join(" ") || undefined,
      }),
    );
  const body = rows.map((row) => element("tr", cells(row)));
  if (body.length === 0) {
    body.push(element("tr", element("td", empty, { colspan: columns.length, class: "empty" })));
  }
  byId(target).replaceChildren(
    element("thead", element("tr", heads)),
    element("tbody", body),
  );
}

function entityLink(kind, id) {
  const query = new URLSearchParams({ kind, id });
  return element("a", `${kind}/${id}`, { href: `#entities?${query}` });
}

// The overview.

function spark(values) {
  const max = Math.max(...values, 1e-9);
  const step = 100 / Math.max(values.length - 1, 1);
  const points = values.map((value, at) => `${(at * step).toFixed(2)},${(29 - (value / max) * 28).toFixed(2)}`);
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", points.length > 1 ? `M${points.join("L")}` : "");
  svg.append(path);
  return svg;
}

const sum = (rows, value) => rows.reduce((all, row) => all + (value(row) ?? 0), 0);

function tiles(sample) {
  const over = (value) => state.samples.map(value);
  const messages = (it) => sum(it.types, (type) => type.handled_per_second);
  const entities = (it) => sum(it.types, (type) => type.active);
  const serving = (it) => it.nodes.filter((node) => node.serves).length;
  const all = sample.nodes.length + sample.silent.length;
  const made = [
    ["nodes that serve", `${serving(sample)} of ${all}`, over(serving)],
    ["active entities", whole(entities(sample)), over(entities)],
    ["messages a second", rate(messages(sample)), over(messages)],
    ["findings", whole(sample.findings.length), over((it) => it.findings.length)],
  ];
  byId("tiles").replaceChildren(
    ...made.map(([name, value, values]) =>
      element("div", [element("b", value), element("span", name), spark(values)], { class: "tile" }),
    ),
  );
}

function findings(sample) {
  const items = sample.findings.map((it) => {
    const head = [element("strong", it.severity), " ", ...prose(it.cause), " "];
    if (it.entity) head.push(entityLink(...it.entity));
    return element("li", [...head, element("p", prose(it.cure))], { class: it.severity, "data-name": it.name });
  });
  if (items.length === 0) {
    items.push(element("li", "Nothing is found that is not as it should be.", { class: "well" }));
  }
  byId("findings").replaceChildren(...items);
}

function nodes(sample) {
  const silent = sample.silent.map((it) => ({ node: it.node, silent: it.reason }));
  table(
    "nodes",
    [
      ["Node", (it) => it.node],
      ["Serves", (it) => (it.silent ? `does not answer: ${it.silent}` : it.serves ? "yes" : "no"), false, (it) => !it.serves],
      ["Leads", (it) => (it.leads ? "yes" : "")],
      ["Up", (it) => time(it.uptime)],
      ["Shards", (it) => whole(it.shards), true],
      ["Entities", (it) => whole(it.entities), true],
      ["Messages/s", (it) => rate(it.handled_per_second), true],
      ["Connections", (it) => whole(it.connections), true],
      ["Dead letters", (it) => whole(it.dead_letters), true],
    ],
    [...sample.nodes, ...silent].sort((a, b) => a.node.localeCompare(b.node, "en", { numeric: true })),
    "no node answers",
  );
}

function busiest(sample) {
  const value = SORTS[state.sort];
  const rows = [...sample.entities].sort(
    (a, b) => value(b) - value(a) || b.queued - a.queued || a.id.localeCompare(b.id),
  );
  table(
    "busiest",
    [
      ["Entity", (it) => entityLink(it.kind, it.id)],
      ["Node", (it) => it.node],
      ["Queue", (it) => whole(it.queued), true],
      ["Handles", (it) => it.handling?.message],
      ["For", (it) => time(it.handling?.micros), true],
      ["Messages/s", (it) => rate(it.handled_per_second), true],
      ["Busy", (it) => percent(it.busy), true],
      ["State", (it) => it.state],
      ["Waits for", (it) => it.waits_for && entityLink(...it.waits_for)],
    ],
    rows.slice(0, 50),
    "no entity has anything to do",
  );
}

function types(sample) {
  const counted = (name) => (it) => whole(it.counts?.[name]);
  table(
    "kinds",
    [
      ["Type", (it) => element("a", it.kind, { href: `#entities?${new URLSearchParams({ kind: it.kind })}` })],
      ["Entities", (it) => whole(it.active), true],
      ["Shards", (it) => whole(it.shards), true],
      ["Messages/s", (it) => rate(it.handled_per_second), true],
      ["Half within", (it) => time(it.half_within), true],
      ["99 % within", (it) => time(it.most_within), true],
      ["Failed", counted("failed"), true, (it) => it.counts?.failed > 0],
      ["Mailbox full", counted("full"), true],
      ["Unhandled", counted("unhandled"), true],
      ["Activated", counted("activated"), true],
      ["Passivated", counted("passivated"), true],
    ],
    sample.types,
    "no entity was ever started",
  );
}

function sorts() {
  const buttons = Object.keys(SORTS).map((name) => {
    const button = element("button", name, { type: "button", "aria-pressed": String(name === state.sort) });
    button.addEventListener("click", () => {
      state.sort = name;
      sorts();
      draw();
    });
    return button;
  });
  byId("sorts").replaceChildren(...buttons);
}

// The list of entities, and one of them.

async function get(path, query) {
  const answer = await fetch(`${path}?${new URLSearchParams(query)}`);
  if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
  return answer.json();
}

function kinds(sample) {
  const select = byId("kind");
  const names = sample.types.map((it) => it.kind);
  if ([...select.options].map((it) => it.value).join("\n") === names.join("\n")) return;
  const chosen = select.value || state.kind;
  select.replaceChildren(...names.map((name) => element("option", name, { value: name })));
  if (names.includes(chosen)) select.value = chosen;
}

// Answers come in any order: a late one to an earlier question is not shown.
function latest() {
  state.asked += 1;
  const mine = state.asked;
  return () => mine === state.asked;
}

async function list(query) {
  const isLatest = latest();
  byId("listed").textContent = "looking";
  try {
    const page = await get("api/entities", query);
    if (!isLatest()) return;
    byId("listed").textContent = page.more
      ? `${page.entities.length} of them: say more of the id to see others`
      : `${page.entities.length} in all`;
    table(
      "list",
      [
        ["Id", (it) => entityLink(query.kind, it.id)],
        ["Active on", (it) => it.active_on],
        ["Shard", (it) => whole(it.shard), true],
        ["Last record", (it) => whole(it.record), true],
      ],
      page.entities,
      "there is none",
    );
  } catch (error) {
    if (!isLatest()) return;
    byId("listed").textContent = error.message;
    byId("list").replaceChildren();
  }
}

async function open(kind, id) {
  const isLatest = latest();
  const article = byId("entity");
  article.hidden = false;
  article.replaceChildren(element("h3", `${kind}/${id}`), element("p", "looking"));
  try {
    const why = await get("api/why", { kind, id });
    if (!isLatest()) return;
    const steps = why.steps.flatMap((step, at) => [
      element("h3", at === 0 ? `${step.kind}/${step.id}` : ["waits for ", entityLink(step.kind, step.id)]),
      element("dl", described(step)),
    ]);
    const history = why.records.length
      ? [element("h3", "Last records"), element("ol", why.records.map((it) => element("li", it)))]
      : [];
    const file = (failed) => `api/recording?${new URLSearchParams(failed ? { kind, id, failed } : { kind, id })}`;
    const recorded = why.recorded
      ? [
          element("h3", "Recorded"),
          element("pre", why.recorded),
          element("p", element("a", "the recording as a file", { href: file(), download: "recording.casty" })),
        ]
      : [];
    const failed = why.steps[0]?.failure
      ? [element("p", element("a", "what was recorded when it failed", { href: file("1"), download: "failed.casty" }))]
      : [];
    article.replaceChildren(...steps, element("p", why.end), ...history, ...recorded, ...failed);
  } catch (error) {
    if (!isLatest()) return;
    article.replaceChildren(element("h3", `${kind}/${id}`), element("p", error.message, { class: "bad" }));
  }
}

function described(step) {
  const rows = [
    ["Node", step.node ?? "none: its shard has no owner"],
    ["Shard", step.shard],
    ["Does", step.activity ?? "it is not active: the next message starts it"],
    ["State", step.state],
    ["Queue", step.queued],
    ["Handles", step.handling && `${step.handling.message}, for ${time(step.handling.micros)}`],
    ...step.moves.map((it) => [
      "Moved",
      `${time(it.ago)} ago, from ${it.from} to ${it.to}: ${it.from} ${it.by_failover ? "was Down" : "handed it over"}`,
    ]),
    ["Last failure", step.failure && `${time(step.failure.ago)} ago, ${step.failure.count} in all: ${step.failure.reason}`],
  ];
  return rows
    .filter(([, value]) => value !== null && value !== undefined)
    .flatMap(([name, value]) => [element("dt", name), element("dd", String(value))]);
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const data = new FormData(event.target);
  const query = new URLSearchParams({ kind: data.get("kind") ?? "", prefix: data.get("prefix"), list: "1" });
  if (data.has("active")) query.set("active", "1");
  location.hash = `entities?${query}`;
});

// The map of shards.

function color(at, count) {
  return `hsl(${Math.round((at * 360) / Math.max(count, 1))} 55% 55%)`;
}

async function shards() {
  try {
    const homes = await get("api/shards", {});
    byId("legend").replaceChildren(
      ...homes.nodes.map((node, at) => {
        const span = element("span", node);
        span.style.setProperty("--home", color(at, homes.nodes.length));
        return span;
      }),
    );
    const grids = homes.kinds.map((kind) => {
      const cells = kind.shards.map((shard, number) => {
        const owner = shard.owner === null ? "no owner" : homes.nodes[shard.owner];
        const moves = shard.to === null ? "" : `, moves to ${homes.nodes[shard.to]}`;
        const waits = shard.waits ? ", waits for a copy" : "";
        const cell = element("i", [], {
          title: `shard ${number}: ${owner}${moves}${waits}`,
          class: shard.waits ? "waits" : shard.to !== null && "moving",
        });
        if (shard.owner !== null) cell.style.setProperty("--home", color(shard.owner, homes.nodes.length));
        return cell;
      });
      return [element("h3", kind.name), element("div", cells, { class: "grid" })];
    });
    byId("map").replaceChildren(...grids.flat());
    if (grids.length === 0) byId("map").textContent = "no type has a shard with an owner";
  } catch (error) {
    byId("map").textContent = error.message;
  }
}

// The whole.

function draw() {
  const sample = state.samples.at(-1);
  if (!sample) return;
  kinds(sample);
  if (state.view === "overview") {
    tiles(sample);
    findings(sample);
    nodes(sample);
    busiest(sample);
  } else if (state.view === "types") {
    types(sample);
  }
}

function route() {
  const [view, query] = location.hash.slice(1).split("?");
  state.view = byId(view)?.tagName === "SECTION" ? view : "overview";
  for (const section of document.querySelectorAll("main > section")) {
    section.hidden = section.id !== state.view;
  }
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.hash === `#${state.view}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const asked = new URLSearchParams(query);
  const kind = asked.get("kind");
  if (state.view === "entities" && kind) {
    state.kind = kind;
    byId("kind").value = kind;
    byId("entity").hidden = true;
    if (asked.has("id")) open(kind, asked.get("id"));
    else list(Object.fromEntries(asked));
  }
  if (state.view === "shards") shards();
  draw();
}

function stream() {
  const status = byId("status");
  const events = new EventSource("api/stream");
  events.addEventListener("sample", (event) => {
    const sample = JSON.parse(event.data);
    state.heard = Date.now();
    state.samples.push(sample);
    if (state.samples.length > SAMPLES) state.samples.shift();
    status.textContent = `${sample.here}, ${new Date(sample.at).toLocaleTimeString()}`;
    status.classList.remove("stale");
    draw();
    if (state.view === "shards") shards();
  });
  events.addEventListener("trouble", (event) => {
    status.textContent = event.data;
    status.classList.add("stale");
  });
  events.addEventListener("error", () => {
    status.textContent = "the node does not answer";
    status.classList.add("stale");
  });
}

// A node that hangs sends no error.
setInterval(() => {
  const last = state.samples.at(-1);
  if (last && Date.now() - state.heard > STALE) byId("status").classList.add("stale");
}, 1000);

sorts();
addEventListener("hashchange", route);
route();
stream();
