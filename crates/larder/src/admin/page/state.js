// What is known of Larder, and what it amounts to in a sentence.

// Samples kept here: as many as Larder keeps.
const KEPT = 900;

const state = {
  status: null,
  // Oldest first; the fields are the columns of /api/v1/history.
  samples: [],
  // When Larder was last heard, and since when it is not.
  heard: 0,
  lost: 0,
};

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(4000) });
  if (!answer.ok) throw new Error(`${path}: status ${answer.status}`);
  return answer.json();
}

async function askHistory() {
  const last = state.samples.at(-1)?.at ?? 0;
  const { columns, samples } = await ask(`/api/v1/history?after=${last}`);
  for (const values of samples) {
    state.samples.push(Object.fromEntries(columns.map((name, at) => [name, values[at]])));
  }
  state.samples.splice(0, Math.max(0, state.samples.length - KEPT));
}

// Sums and means over the last so many seconds.
function lately(seconds) {
  const from = (state.samples.at(-1)?.at ?? 0) - seconds * 1000;
  const samples = state.samples.filter((sample) => sample.at > from);
  const mean = (of) => (samples.length ? samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length : null);
  const known = (name, weight) => {
    let [sum, weights] = [0, 0];
    for (const sample of samples) {
      if (sample[name] != null) {
        sum += sample[name] * sample[weight];
        weights += sample[weight];
      }
    }
    return weights > 0 ? sum / weights : null;
  };
  return {
    hits: mean((sample) => sample.hits),
    misses: mean((sample) => sample.misses),
    bypassed: mean((sample) => sample.bypassed),
    errors: mean((sample) => sample.errors),
    saved: mean((sample) => sample.saved),
    hit: known("hit_p50", "hits"),
    miss: known("miss_p50", "misses"),
  };
}

// What each level promises, given the bound of the lease.
function promise(level, bound) {
  switch (level) {
    case "linearizable":
      return "Every read is answered as PostgreSQL itself would have answered it, whoever wrote.";
    case "strict":
      return `No read misses a write acknowledged through this Larder; writes made around it appear within ${bound}.`;
    case "session":
      return `Every session sees its own writes at once, those of others within ${bound}.`;
    default:
      return `Writes appear within ${bound}.`;
  }
}

// { level, title, text, findings }
function verdict(status) {
  const bound = exact(status.max_lag_seconds);
  const feed = status.feed;
  const passes = "Nothing is answered from memory; PostgreSQL answers everything, and answers are right as ever.";
  if (!status.origin.reachable) {
    return { level: "bad", title: "The database cannot be reached", text: status.origin.problem ?? "" };
  }
  if (status.draining) {
    return { level: "warn", title: "Draining", text: "Clients leave as their transactions end; no new ones are taken." };
  }
  if (status.mode === "bypass") {
    return { level: "warn", title: "Switched off", text: `Mode bypass. ${passes}` };
  }
  if (feed.state === "starting") {
    return { level: "wait", title: "Starting", text: `The change feed is being set up. ${passes}` };
  }
  if (feed.state !== "connected") {
    return { level: "warn", title: "Passing everything on: the change feed is not connected", text: passes, findings: feed.findings };
  }
  if (!status.lease.holds) {
    return {
      level: "warn",
      title: `Passing everything on: the change feed is ${time(feed.lag_seconds)} behind`,
      text: `Answers may come from memory while it is less than ${bound} behind. Until then PostgreSQL answers everything.`,
    };
  }
  if (status.mode === "shadow") {
    return {
      level: "wait",
      title: status.verify.mismatches > 0 ? "In the shadow: memory is compared, and differed" : "In the shadow: memory is compared, not served",
      text: `PostgreSQL answers everything. What memory would have answered is compared with it: ${count(status.verify.checks)} times so far, ${count(status.verify.mismatches)} different.`,
    };
  }
  if (status.level === "linearizable") {
    return { level: "ok", title: "Serving. Every answer is as new as PostgreSQL's own.", text: promise(status.level, bound) };
  }
  return {
    level: "ok",
    title: `Serving. Every answer is at most ${time(feed.lag_seconds)} old.`,
    text: promise(status.level, bound),
    // For those who listen instead of looking: not a number that changes every second.
    spoken: `Serving. Every answer is at most ${bound} old.`,
  };
}
