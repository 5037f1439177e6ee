// What an operator can do: with the admin token, asked for once, kept in this tab, sent in a header and nowhere else.

const TOKEN = "larder.token";

const purgeAll = () => ({
  title: "Forget everything in memory?",
  text: "Every answer comes from PostgreSQL until memory has filled again. Freshness never needs this.",
  confirm: "Purge all",
  danger: true,
  path: "/api/v1/purge",
  body: { all: true },
});
const purgeQuery = (row) => ({
  title: "Forget the answers of this statement?",
  text: row.query,
  confirm: "Purge",
  path: "/api/v1/purge",
  body: { query: row.fingerprint },
});
const purgeTable = (name) => ({
  title: "Forget the answers that depend on this table?",
  text: name,
  confirm: "Purge",
  path: "/api/v1/purge",
  body: { table: name },
});
const denyQuery = (row) => ({
  title: "Do not cache this statement any more?",
  text: `${row.query}\n\nUntil it is allowed again under Rules, or Larder restarts.`,
  confirm: "Deny",
  danger: true,
  path: "/api/v1/deny",
  body: { query: row.fingerprint, cache: false },
});
const resetQuery = (row) => ({
  title: "Cache this statement again?",
  text: `${row.query}\n\nWhat was in memory of it is gone. If the cause is still there, it will be found and switched off again.`,
  confirm: "Reset",
  path: "/api/v1/deny",
  body: { query: row.fingerprint, cache: true },
});
const denyTable = (name) => ({
  title: "Do not cache what reads this table any more?",
  text: `${name}\n\nUntil it is allowed again under Rules, or Larder restarts.`,
  confirm: "Deny",
  danger: true,
  path: "/api/v1/deny",
  body: { table: name, cache: false },
});
// As SHOW RULES names it: "query 0123..." or "table public.orders".
function allow(rule) {
  const [kind, ...name] = rule.split(" ");
  return { title: "Cache this again?", text: rule, confirm: "Allow", path: "/api/v1/deny", body: { [kind]: name.join(" "), cache: true } };
}
const MODES = {
  serve: ["Answer from memory again?", "What is provably fresh is answered from memory."],
  shadow: ["Compare only?", "PostgreSQL answers everything; what memory would have answered is compared and counted."],
  bypass: ["Switch off answers from memory?", "PostgreSQL answers everything, from the next statement on."],
};
const setMode = (mode) => ({
  title: MODES[mode][0],
  text: MODES[mode][1],
  confirm: `Mode ${mode}`,
  danger: mode === "bypass",
  path: "/api/v1/mode",
  body: { mode },
});

let pending = null;

// Asks whether to, and for the token if it is not known; then does it.
function operate(action) {
  pending = action;
  const allowed = state.status?.admin.token;
  const known = sessionStorage.getItem(TOKEN) != null;
  say("dialog-title", action.title);
  say("dialog-text", allowed ? action.text : "Operating from here is switched off, as this Larder has no admin token. Set token in section [admin] of its configuration, or LARDER_ADMIN_TOKEN_FILE, and restart it.");
  say("dialog-error", "");
  byId("dialog-token").hidden = !allowed || known;
  byId("token").value = "";
  byId("dialog-choices").replaceChildren(...(allowed ? (action.choices ?? []) : []));
  const confirm = byId("dialog-confirm");
  confirm.hidden = !allowed || !action.path;
  say(confirm, action.confirm ?? "");
  mark(confirm, "data-danger", String(Boolean(action.danger)));
  if (!byId("dialog").open) byId("dialog").showModal();
}

function menu() {
  const choose = (label, action, current) => {
    const made = button(label, () => operate(action), { class: "plain" });
    made.disabled = current;
    return made;
  };
  const modes = (state.status?.modes ?? ["serve", "bypass"]).map((mode) => choose(`Mode ${mode}`, setMode(mode), state.status?.mode === mode));
  const forget = button("Forget the token", () => {
    sessionStorage.removeItem(TOKEN);
    byId("dialog").close();
  }, { class: "plain" });
  forget.hidden = sessionStorage.getItem(TOKEN) == null;
  operate({ title: "Operate", text: `Mode is ${state.status?.mode ?? "not known"}.`, choices: [...modes, choose("Purge all", purgeAll(), false), forget] });
  byId("dialog-token").hidden = true;
}

async function carryOut(action) {
  const typed = byId("token").value.trim();
  if (typed) sessionStorage.setItem(TOKEN, typed);
  const token = sessionStorage.getItem(TOKEN);
  if (token == null) {
    say("dialog-error", "The admin token is needed for this.");
    byId("token").focus();
    return;
  }
  let headers;
  try {
    headers = new Headers({ "Content-Type": "application/json", Authorization: `Bearer ${token}` });
  } catch {
    return refused("This cannot be a token: it has characters that no header may have.");
  }
  try {
    const answer = await fetch(action.path, { method: "POST", headers, body: JSON.stringify(action.body), signal: AbortSignal.timeout(8000) });
    const said = await answer.json().catch(() => ({}));
    if (answer.status === 401) return refused("Larder does not know this token.");
    if (!answer.ok) {
      say("dialog-error", [said.error ?? `status ${answer.status}`, said.hint].filter(Boolean).join(" "));
      return;
    }
    byId("dialog").close();
    toast(`Done: ${said.done}`);
    refresh(true);
  } catch (error) {
    say("dialog-error", `Larder did not answer: ${error.message}`);
  }
}

function refused(why) {
  sessionStorage.removeItem(TOKEN);
  byId("dialog-token").hidden = false;
  say("dialog-error", why);
  byId("token").focus();
}

let toastTimer = 0;

function toast(text) {
  say("toast", text);
  byId("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { byId("toast").hidden = true; }, 4000);
}

byId("operate").addEventListener("click", menu);
byId("dialog-cancel").addEventListener("click", () => byId("dialog").close());
byId("dialog-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (pending?.path) carryOut(pending);
});
