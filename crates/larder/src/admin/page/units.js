// Numbers for people: three digits are enough, and the unit says the size.

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

// 12,345 and from a million on 1.23 M.
function count(value) {
  if (value == null) return "–";
  if (value < 1e6) return GROUPED.format(value);
  return value < 1e9 ? `${(value / 1e6).toPrecision(3)} M` : `${(value / 1e9).toPrecision(3)} G`;
}

function rate(value) {
  if (value == null) return "–";
  return value > 0 && value < 10 ? value.toFixed(1) : count(value);
}

function digits(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

// A short span: 84 µs, 1.20 ms, 3.4 s.
function time(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 1e-3) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${digits(seconds * 1e3)} ms`;
  return seconds < 120 ? `${digits(seconds)} s` : span(seconds);
}

// The same for a bound or a mark on an axis, which is exact: 1 s, 250 ms.
function exact(seconds) {
  return time(seconds).replace(/\.0+(?= )|(\.\d*?[1-9])0+(?= )/, "$1");
}

// A long one: 3 min 20 s, 4 h 12 min, 2 d 3 h.
function span(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return "–";
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

function bytes(value) {
  if (value == null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return at === 0 ? `${value} B` : `${value >= 100 ? value.toFixed(0) : value.toPrecision(3)} ${units[at]}`;
}

function percent(part, whole) {
  if (!whole) return "–";
  const share = (part * 100) / whole;
  // Nearly all is not all.
  return share > 99.9 && share < 100 ? ">99.9 %" : `${share.toFixed(share > 0 && share < 100 ? 1 : 0)} %`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });

function clock(milliseconds) {
  return CLOCK.format(new Date(milliseconds));
}

// The clock, and the day if it was another one.
function moment(milliseconds) {
  const today = new Date().toDateString() === new Date(milliseconds).toDateString();
  return today ? clock(milliseconds) : `${DAY.format(new Date(milliseconds))} ${clock(milliseconds)}`;
}
