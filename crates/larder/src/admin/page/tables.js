// Tables: rows by a key, so that what stays is not made anew while somebody reads it.

// A query's text: two lines of it until somebody wants the rest.
function queryText(text) {
  const made = button(text, () => made.setAttribute("aria-expanded", String(made.getAttribute("aria-expanded") !== "true")), {
    class: "sql",
    "aria-expanded": "false",
  });
  return made;
}

function meter(share) {
  const bar = element("i");
  bar.style.width = `${Math.round(Math.min(1, Math.max(0, share)) * 100)}%`;
  return element("span", { class: "meter", "aria-hidden": "true" }, bar);
}

// columns: [{ title, kind, text(row), node(row), wide }]: `text` may change while the row stays, `node` is made once.
function showTable(id, columns, rows, keyOf, empty) {
  const table = byId(id);
  if (!table.tHead) {
    mark(table, "role", "table");
    mark(table, "aria-labelledby", `${id}-title`);
    const heads = columns.map((column) =>
      element("th", { scope: "col", role: "columnheader", class: column.kind }, column.unseen ? element("span", { class: "unseen" }, column.title) : column.title),
    );
    table.append(element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...heads)), element("tbody", { role: "rowgroup" }));
    table.after(element("p", { class: "empty" }, empty));
  }
  table.hidden = rows.length === 0;
  table.nextElementSibling.hidden = rows.length > 0;
  keep(table.tBodies[0], rows, keyOf, (row) => makeRow(columns, row), (line, row) => updateRow(columns, line, row));
}

function makeRow(columns, row) {
  const cells = columns.map((column) => {
    const cell = element("td", { role: "cell", "data-label": column.title, class: [column.kind, column.wide ? "wide" : ""].join(" ").trim() });
    if (column.node) cell.append(...[column.node(row)].flat());
    return cell;
  });
  return element("tr", { role: "row" }, ...cells);
}

function updateRow(columns, line, row) {
  columns.forEach((column, at) => {
    const cell = line.cells[at];
    if (column.text) {
      say(cell, column.text(row));
      cell.classList.toggle("blank", !cell.textContent);
    }
    column.update?.(cell, row);
  });
}

const HIT_RATIO = {
  title: "From memory",
  kind: "num",
  node: () => [meter(0), element("span")],
  update: (cell, row) => {
    cell.firstChild.firstChild.style.width = `${row.calls ? (row.hits * 100) / row.calls : 0}%`;
    say(cell.lastChild, percent(row.hits, row.calls));
  },
};

const QUERY = { title: "Statement", wide: true, node: (row) => queryText(row.query) };

function queryActions(row) {
  const about = row.query.slice(0, 60);
  return [
    button("Purge", () => operate(purgeQuery(row)), { class: "act", "aria-label": `Purge the answers of ${about}` }),
    button("Deny", () => operate(denyQuery(row)), { class: "act", "aria-label": `Deny caching of ${about}` }),
  ];
}

function showSaving(rows) {
  const saving = rows.filter((row) => row.saved_seconds > 0);
  showTable(
    "saving",
    [
      QUERY,
      { title: "Saved", kind: "num", text: (row) => time(row.saved_seconds) },
      HIT_RATIO,
      { title: "Calls", kind: "num", text: (row) => count(row.calls) },
      { title: "At origin", kind: "num", text: (row) => time(row.origin_seconds) },
      { title: "Invalidated", kind: "num", text: (row) => count(row.invalidated) },
      { title: "Actions", unseen: true, kind: "acts", node: queryActions },
    ],
    saving,
    (row) => row.fingerprint,
    "Nothing yet: the second time that a statement is asked, it can be answered from memory.",
  );
}

// Statements whose answer in memory was not the origin's: rare, so there is nothing to see while there are none.
function showMismatches(rows) {
  byId("mismatches-section").hidden = rows.length === 0;
  const reset = (row) => button("Reset", () => operate(resetQuery(row)), { class: "act", "aria-label": `Cache again: ${row.query.slice(0, 60)}` });
  showTable(
    "mismatches",
    [
      QUERY,
      { title: "Compared", kind: "num", text: (row) => count(row.checks) },
      { title: "Different", kind: "num", text: (row) => count(row.mismatches) },
      {
        title: "Caching",
        kind: "slim",
        node: () => element("span", { class: "tag" }),
        update: (cell, row) => {
          mark(cell.firstChild, "data-level", row.switched_off ? "bad" : "ok");
          say(cell.firstChild, row.switched_off ? "off" : "on again");
        },
      },
      {
        title: "Actions",
        unseen: true,
        kind: "acts",
        node: (row) => reset(row),
        update: (cell, row) => { cell.firstChild.hidden = !row.switched_off; },
      },
    ],
    rows,
    (row) => row.fingerprint,
    "None.",
  );
}

function showReasons(rows) {
  showTable(
    "reasons",
    [
      { title: "Reason", kind: "name slim", text: (row) => row.reason },
      { title: "What it means, and what to do", wide: true, node: (row) => [element("div", { class: "why" }, row.explanation), element("div", { class: "todo" }, row.remedy)] },
      { title: "Statements", kind: "num", text: (row) => count(row.statements) },
      { title: "Cost", kind: "num", text: (row) => time(row.origin_seconds) },
    ],
    rows,
    (row) => row.reason,
    "Nothing: every statement so far was cacheable.",
  );
}

function showUncached(rows) {
  showTable(
    "uncached",
    [
      QUERY,
      { title: "Reason", kind: "name slim", text: (row) => row.reason ?? "" },
      { title: "Not cached", kind: "num", text: (row) => count(row.bypassed) },
      { title: "At origin", kind: "num", text: (row) => time(row.origin_seconds) },
      { title: "Last", kind: "num", text: (row) => `${span(row.idle_seconds)} ago` },
    ],
    rows,
    (row) => row.fingerprint,
    "None.",
  );
}

function showTables(rows) {
  showTable(
    "tables",
    [
      { title: "Table", kind: "name", wide: true, text: (row) => row.relation },
      { title: "Saved", kind: "num", text: (row) => time(row.saved_seconds) },
      { title: "Statements", kind: "num", text: (row) => count(row.queries) },
      { title: "Hits", kind: "num", text: (row) => count(row.hits) },
      { title: "Invalidated", kind: "num", text: (row) => count(row.invalidated) },
      {
        title: "Actions",
        unseen: true,
        kind: "acts",
        node: (row) => [
          button("Purge", () => operate(purgeTable(row.relation)), { class: "act", "aria-label": `Purge the answers from ${row.relation}` }),
          button("Deny", () => operate(denyTable(row.relation)), { class: "act", "aria-label": `Deny caching of ${row.relation}` }),
        ],
      },
    ],
    rows,
    (row) => row.relation,
    "No answer that depends on a table is kept yet.",
  );
}

function showRules(rows) {
  showTable(
    "rules",
    [
      { title: "Rule", wide: true, node: (row) => [element("div", { class: "name" }, row.rule), row.query ? queryText(row.query) : ""] },
      { title: "Caching", kind: "slim", text: (row) => (row.cache ? (row.ttl_seconds ? `at most ${span(row.ttl_seconds)}` : "on") : "off") },
      { title: "By", kind: "name slim", text: (row) => (row.since ? row.reason : "configuration") },
      {
        title: "Actions",
        unseen: true,
        kind: "acts",
        node: (row) => (row.since ? [button("Allow", () => operate(allow(row.rule)), { class: "act", "aria-label": `Allow caching of ${row.rule}` })] : []),
      },
    ],
    rows,
    (row) => `${row.rule} ${row.since}`,
    "None: whatever can be cached is.",
  );
}

function showClients(rows, total) {
  say("clients-count", total ? count(total) : "");
  const levels = { active: "ok", waiting: "warn", "idle in transaction": "warn" };
  showTable(
    "clients",
    [
      { title: "Client", wide: true, node: (row) => [element("div", {}, row.application_name || "(no name)"), element("div", { class: "note" }, `${row.address}${row.tls ? " · TLS" : ""}`)] },
      { title: "User, database", text: (row) => `${row.user} · ${row.database}` },
      {
        title: "State",
        kind: "slim",
        node: () => element("span", { class: "tag" }),
        update: (cell, row) => {
          mark(cell.firstChild, "data-level", levels[row.state] ?? "");
          say(cell.firstChild, row.state);
        },
      },
      { title: "Since", kind: "num", text: (row) => span(row.state_seconds) },
      { title: "Statements", kind: "num", text: (row) => count(row.statements) },
      { title: "From memory", kind: "num", text: (row) => percent(row.hits, row.statements) },
    ],
    rows,
    (row) => `${row.worker} ${row.address}`,
    "Nobody is connected.",
  );
}
