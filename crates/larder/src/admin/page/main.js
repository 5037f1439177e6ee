// Asks Larder about once a second while the page is seen, and shows the answers.

const EVERY = 1000;
// Tables are for reading: they change every third time.
const TABLES_EVERY = 3;
const ROWS = 12;

let minutes = 5;
let turn = 0;
let asking = false;

const charts = {
  rate: new Chart("chart-rate", {
    stacked: true,
    unit: rate,
    least: 3,
    empty: "No statements yet.",
    series: [
      { name: "memory", kind: "hit", value: (point) => point.hits },
      { name: "origin, kept", kind: "miss", value: (point) => point.misses },
      { name: "origin, passed on", kind: "pass", value: (point) => point.bypassed },
    ],
  }),
  latency: new Chart("chart-latency", {
    scale: "log",
    unit: time,
    mark: exact,
    empty: "No statements that can be cached yet.",
    series: [
      { name: "hits", kind: "hit", value: (point) => point.hit_p50, upper: (point) => point.hit_p99 },
      { name: "misses", kind: "miss", value: (point) => point.miss_p50, upper: (point) => point.miss_p99 },
    ],
  }),
  ratio: new Chart("chart-ratio", {
    scale: "share",
    unit: (share) => `${Math.round(share * 100)} %`,
    empty: "No statements yet.",
    series: [
      {
        name: "of all statements",
        kind: "hit",
        value: (point) => {
          const all = point.hits + point.misses + point.bypassed;
          return all > 0 ? point.hits / all : null;
        },
      },
    ],
  }),
  lag: new Chart("chart-lag", {
    unit: time,
    mark: exact,
    bound: () => state.status?.max_lag_seconds,
    empty: "The change feed has proven nothing yet.",
    // From the start of Larder there is no telling: it would dwarf everything after it.
    series: [{ name: "behind the origin (dashed: the bound)", kind: "hit", value: (point) => Math.min(point.lag, 3 * (state.status?.max_lag_seconds ?? 1)) }],
  }),
};

async function refresh(everything) {
  if (asking) return;
  asking = true;
  try {
    const tables = everything || turn % TABLES_EVERY === 0;
    turn += 1;
    const [status] = await Promise.all([ask("/api/v1/status"), askHistory(), tables ? refreshTables() : null]);
    state.status = status;
    [state.heard, state.lost] = [Date.now(), 0];
    showStatus(status);
  } catch {
    state.lost ||= Date.now();
  } finally {
    asking = false;
  }
  showContact();
  showCharts();
}

async function refreshTables() {
  const [saving, uncached, mismatches, reasons, tables, rules, clients, events] = await Promise.all([
    ask(`/api/v1/queries?by=saved&limit=${ROWS}`),
    ask(`/api/v1/queries?by=uncached&limit=${ROWS}`),
    ask(`/api/v1/queries?by=mismatches&limit=${ROWS}`),
    ask("/api/v1/reasons"),
    ask(`/api/v1/tables?limit=${ROWS}`),
    ask("/api/v1/rules?limit=50"),
    ask("/api/v1/clients?limit=50"),
    ask("/api/v1/events?limit=50"),
  ]);
  showSaving(saving);
  showUncached(uncached);
  showMismatches(mismatches);
  showReasons(reasons);
  showTables(tables);
  showRules(rules);
  showClients(clients, state.status?.clients);
  showEvents(events);
}

function showContact() {
  const lost = state.lost > 0;
  const connecting = !state.heard && !lost;
  mark(byId("contact"), "data-state", lost ? "lost" : connecting ? "" : "live");
  const since = state.heard ? `since ${clock(state.heard)}` : "";
  say("contact-text", lost ? `no contact ${since}`.trim() : connecting ? "connecting" : "live");
  document.body.classList.toggle("lost", lost);
  document.title = lost ? "No contact – Larder" : state.status ? `${pageTitle(state.status)} – Larder` : "Larder";
  if (lost) announce("No contact with Larder. What is shown is what was last known.");
}

function pageTitle(status) {
  const { level } = verdict(status);
  return level === "ok" ? "Serving" : level === "bad" ? "Origin unreachable" : "Passing on";
}

let announced = "";

// For those who listen: only what is another state.
function announce(text) {
  if (text !== announced) {
    announced = text;
    say("announce", text);
  }
}

function showStatus(status) {
  const { level, title, text, findings = [], spoken = title } = verdict(status);
  mark(byId("verdict"), "data-level", level);
  say("verdict-title", title);
  say("verdict-text", text);
  announce(spoken);
  keep(byId("findings"), findings, (finding) => finding.code + finding.problem, makeFinding, () => {});
  const { feed, lease } = status;
  const known = status.epoch > 0;
  say("fact-lag", known ? time(feed.lag_seconds) : "–");
  say("fact-lease", lease.holds ? `${time(lease.remaining_seconds)} left` : "none");
  say("fact-feed", feed.lag_bytes > 0 ? `${feed.state}, ${bytes(feed.lag_bytes)} to go` : feed.state);
  say("fact-gaps", count(feed.gaps));
  say("fact-epoch", count(status.epoch));
  const { checks, mismatches } = status.verify;
  byId("fact-verify").parentElement.hidden = checks === 0;
  say("fact-verify", `${count(checks)}, ${mismatches === 0 ? "all the same" : `${count(mismatches)} different`}`);
  say("fact-level", `${status.level}, ${exact(status.max_lag_seconds)}`);
  say("fact-origin", status.origin.reachable ? "reachable" : "not reachable");
  say("fact-uptime", span(status.uptime_seconds));
  say("where", `${status.listen} → ${status.origin.address}`);
  say("version", `Larder ${status.version}, revision ${status.revision}. The same as JSON: /api/v1/status, /metrics; in psql: dbname=larder.`);
  showFigures(status);
  showTiers(status);
}

function makeFinding(finding) {
  return element(
    "li",
    {},
    element("strong", {}, finding.problem),
    element("span", { class: "code" }, finding.code),
    element("pre", {}, finding.remedy),
  );
}

function showFigures(status) {
  const last = lately(60);
  const all = last.hits + last.misses + last.bypassed;
  const { hits, shared, coalesced, misses, bypassed } = status.queries;
  const [served, ever] = [hits + shared + coalesced, hits + shared + coalesced + misses + bypassed];
  say("figure-ratio", percent(last.hits, all));
  say("figure-ratio-note", `${percent(served, ever)} since the start`);
  say("figure-rate", last.hits == null ? "–" : `${rate(all)} /s`);
  say("figure-rate-note", last.errors > 0 ? `${rate(last.errors)} errors /s` : `${count(ever)} since the start`);
  say("figure-hit", time(last.hit));
  say("figure-hit-note", last.hit && last.miss ? `${count(Math.round(last.miss / last.hit))} times faster than a miss` : "from memory");
  say("figure-miss", time(last.miss));
  say("figure-miss-note", "from the origin, and kept");
  say("figure-saved", time(last.saved));
  say("figure-saved-note", "per second, as hits would have cost");
}

function showTiers(status) {
  const { l1, l2 } = status.tiers;
  const cards = [{ name: "Memory (L1)", share: l1.bytes / l1.max_bytes, state: "", level: "", facts: [["Answers", count(l1.entries)], ["Bytes", `${bytes(l1.bytes)} of ${bytes(l1.max_bytes)}`]] }];
  if (l2) {
    const lookups = l2.hits + l2.misses;
    cards.push({
      name: "Valkey (L2)",
      state: l2.state,
      level: l2.breaker_open ? "bad" : l2.reachable ? "ok" : "warn",
      facts: [
        ["Server", l2.url],
        ["Latency", time(l2.latency_seconds)],
        ["Found there", `${count(l2.hits)} of ${count(lookups)}`],
        ["Handed over", count(l2.puts)],
        ...l2.findings.map((finding) => [finding.problem, finding.remedy]),
      ],
    });
  }
  const make = (card) => element("div", { class: "card tier" }, element("h3", {}, card.name, element("span", { class: "tag" })), card.share == null ? null : meter(0), element("dl"));
  keep(byId("tiers"), cards, (card) => card.name, make, (node, card) => {
    const tag = node.querySelector(".tag");
    tag.hidden = !card.state;
    mark(tag, "data-level", card.level);
    say(tag, card.state);
    if (card.share != null) node.querySelector(".meter i").style.width = `${card.share * 100}%`;
    keep(node.querySelector("dl"), card.facts.flatMap(([name, value]) => [["dt", name, name], ["dd", name, value]]), ([tag, name]) => tag + name, ([tag]) => element(tag), (line, [, , text]) => say(line, text));
  });
}

function showEvents(events) {
  const make = (event) => element("li", {}, element("time"), element("span", { class: "tag", "data-level": event.level === "warning" ? "warn" : "" }, event.kind), element("p"));
  keep(byId("events"), events, (event) => event.id + event.event, make, (line, event) => {
    say(line.querySelector("time"), moment(event.at));
    say(line.querySelector("p"), event.times > 1 ? `${event.event} (${event.times} times)` : event.event);
  });
}

function showCharts() {
  const to = Math.max(state.samples.at(-1)?.at ?? 0, state.lost ? Date.now() : 0) || Date.now();
  for (const chart of Object.values(charts)) chart.show(state.samples, to - minutes * 60000, to);
}

for (const choice of document.querySelectorAll("[data-minutes]")) {
  choice.addEventListener("click", () => {
    minutes = Number(choice.dataset.minutes);
    for (const other of document.querySelectorAll("[data-minutes]")) mark(other, "aria-pressed", String(other === choice));
    showCharts();
  });
}
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh(true);
});
setInterval(() => {
  if (!document.hidden) refresh(false);
}, EVERY);
refresh(true);
