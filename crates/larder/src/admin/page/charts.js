// Charts of the last minutes: SVG, drawn anew each second, read off with the pointer or the arrow keys.

const MARGIN = { top: 8, right: 6, bottom: 20, left: 50 };
// Points across a chart: more than that cannot be told apart.
const POINTS = 150;
// Samples further apart than this are not joined: nobody knows what was between.
const BREAK = 5000;

class Chart {
  // options: series [{ name, kind, value, upper }], unit, scale "linear" | "log" | "share", stacked, bound, empty
  constructor(id, options) {
    this.options = options;
    this.points = [];
    this.cursor = null;
    this.legend = element("div", { class: "legend" });
    this.svg = shape("svg", { role: "img" });
    this.tip = element("div", { class: "tip", hidden: "" });
    this.blank = element("p", { class: "empty" }, options.empty);
    const title = byId(id).querySelector("figcaption").textContent;
    this.title = title;
    this.plot = element("div", { class: "plot", tabindex: "0", role: "group", "aria-label": `${title}. Arrow keys read off values.` }, this.svg, this.tip, this.blank);
    byId(id).append(this.legend, this.plot);
    this.plot.addEventListener("pointermove", (event) => this.point(event.clientX - this.plot.getBoundingClientRect().left));
    this.plot.addEventListener("pointerleave", () => this.choose(null));
    this.plot.addEventListener("blur", () => this.choose(null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  show(samples, from, to) {
    Object.assign(this, { from, to, points: condensed(samples, from, to) });
    this.draw();
  }

  // What a series shows at a point: from where to where.
  extents(point) {
    let base = 0;
    return this.options.series.map((series) => {
      const value = series.value(point);
      if (value == null) return null;
      if (!this.options.stacked) return { low: value, high: series.upper?.(point) ?? value };
      const low = base;
      base += value;
      return { low, high: base };
    });
  }

  range() {
    const all = this.points.flatMap((point) => this.extents(point).filter(Boolean));
    const highs = all.map((extent) => extent.high);
    if (this.options.scale === "share") return [0, 1];
    if (this.options.scale === "log") {
      const lows = all.map((extent) => extent.low).filter((low) => low > 0);
      const bottom = 10 ** Math.floor(Math.log10(Math.min(...lows, 1e-4)));
      const top = 10 ** Math.ceil(Math.log10(Math.max(...highs, bottom * 100)));
      return [bottom, top];
    }
    const most = Math.max(...highs, this.options.bound?.() ?? 0, this.options.least ?? 0);
    const step = nice(most / 3);
    return [0, Math.max(step, Math.ceil(most / step) * step)];
  }

  draw() {
    const [width, height] = [this.plot.clientWidth, this.plot.clientHeight];
    const empty = this.points.length < 2 || !this.points.some((point) => this.extents(point).some(Boolean));
    this.blank.hidden = !empty;
    this.svg.replaceChildren();
    this.describe(empty);
    if (empty || width < 80) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const [bottom, top] = this.range();
    const inner = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
    const log = this.options.scale === "log";
    const share = (value) =>
      log ? (Math.log10(Math.max(value, bottom)) - Math.log10(bottom)) / (Math.log10(top) - Math.log10(bottom)) : (value - bottom) / (top - bottom);
    this.x = (at) => inner.left + ((at - this.from) / (this.to - this.from)) * (inner.right - inner.left);
    this.y = (value) => inner.bottom - Math.min(1, Math.max(0, share(value))) * (inner.bottom - inner.top);
    this.axes(inner, bottom, top, log);
    this.series();
    const bound = this.options.bound?.();
    if (bound) {
      const y = this.y(bound);
      this.svg.append(shape("line", { class: "bound", x1: inner.left, x2: inner.right, y1: y, y2: y }));
    }
    this.readOff(inner);
  }

  axes(inner, bottom, top, log) {
    for (const value of log ? decades(bottom, top) : linear(bottom, top)) {
      const y = Math.round(this.y(value)) + 0.5;
      this.svg.append(
        shape("line", { class: "grid", x1: inner.left, x2: inner.right, y1: y, y2: y }),
        shape("text", { class: "axis", x: inner.left - 7, y: y + 3.5, "text-anchor": "end" }, (this.options.mark ?? this.options.unit)(value)),
      );
    }
    const minutes = Math.round((this.to - this.from) / 60000);
    const every = minutes <= 5 ? 1 : 5;
    for (let ago = 0; ago <= minutes; ago += every) {
      const at = ago === 0 ? inner.right : this.x(this.to - ago * 60000);
      const anchor = ago === 0 ? "end" : ago === minutes ? "start" : "middle";
      this.svg.append(shape("text", { class: "axis", x: at, y: inner.bottom + 15, "text-anchor": anchor }, ago === 0 ? "now" : `−${ago} min`));
    }
  }

  series() {
    const extents = this.points.map((point) => this.extents(point));
    this.options.series.forEach((series, which) => {
      for (const run of runs(this.points, (at) => extents[at][which])) {
        const upper = run.map((at) => [this.x(this.points[at].at), this.y(extents[at][which].high)]);
        const lower = run.map((at) => [this.x(this.points[at].at), this.y(extents[at][which].low)]);
        if (this.options.stacked || series.upper) {
          const faint = this.options.stacked ? "" : " faint";
          this.svg.append(shape("path", { class: `${series.kind} area${faint}`, d: `${path(upper)}L${path(lower.reverse()).slice(1)}Z` }));
          lower.reverse();
        }
        if (!this.options.stacked) this.svg.append(shape("path", { class: `${series.kind} line`, d: path(lower) }));
      }
    });
  }

  describe(empty) {
    const last = this.points.at(-1);
    const parts = this.options.series.map((series) => {
      const value = last && !empty ? series.value(last) : null;
      return { series, text: value == null ? "–" : this.options.unit(value) };
    });
    this.legend.replaceChildren(
      ...parts.map(({ series, text }) => element("span", {}, element("i", { class: `key ${series.kind}` }), series.name, element("b", {}, text))),
    );
    mark(this.svg, "aria-label", `${this.title}: ${parts.map(({ series, text }) => `${series.name} ${text}`).join(", ")}`);
  }

  point(x) {
    if (!this.x || !this.points.length) return;
    const near = this.points.reduce((best, point) => (Math.abs(this.x(point.at) - x) < Math.abs(this.x(best.at) - x) ? point : best));
    this.choose(near.at);
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !this.points.length) return;
    event.preventDefault();
    const at = this.cursor == null ? this.points.length - 1 : this.points.findIndex((point) => point.at >= this.cursor) + step;
    this.choose(this.points[Math.min(this.points.length - 1, Math.max(0, at))].at);
  }

  choose(at) {
    this.cursor = at;
    this.draw();
  }

  readOff(inner) {
    const point = this.cursor == null ? null : this.points.find((candidate) => candidate.at >= this.cursor);
    this.tip.hidden = !point;
    if (!point) return;
    const x = this.x(point.at);
    this.svg.append(shape("line", { class: "cursor", x1: x, x2: x, y1: inner.top, y2: inner.bottom }));
    const row = (series) => {
      const upper = series.upper?.(point);
      const value = this.options.unit(series.value(point)) + (upper == null ? "" : ` · ${this.options.unit(upper)}`);
      return element("div", {}, element("span", {}, element("i", { class: `key ${series.kind}` }), series.name), element("b", {}, value));
    };
    this.tip.replaceChildren(element("div", { class: "at" }, clock(point.at)), ...this.options.series.map(row));
    const left = x + 12 + this.tip.offsetWidth > this.plot.clientWidth ? x - 12 - this.tip.offsetWidth : x + 12;
    this.tip.style.left = `${Math.max(0, left)}px`;
  }
}

// At most POINTS of them, each the mean of its samples; of the slowest, the slowest.
function condensed(samples, from, to) {
  const width = Math.max(1000, (to - from) / POINTS);
  const buckets = new Map();
  for (const sample of samples) {
    if (sample.at < from || sample.at > to) continue;
    const slot = Math.floor(sample.at / width);
    buckets.set(slot, [...(buckets.get(slot) ?? []), sample]);
  }
  return [...buckets.values()].map((bucket) => {
    const point = {};
    for (const name of Object.keys(bucket[0])) {
      const values = bucket.map((sample) => sample[name]).filter((value) => value != null);
      const worst = name.endsWith("p99") || name === "lag" || name === "at";
      point[name] = !values.length ? null : worst ? Math.max(...values) : values.reduce((sum, value) => sum + value, 0) / values.length;
    }
    return point;
  });
}

// Stretches of points next to each other that have a value, as lists of positions.
function runs(points, valueOf) {
  const found = [];
  let previous = null;
  points.forEach((point, at) => {
    if (valueOf(at) == null) return;
    const joined = previous != null && points[at].at - points[previous].at <= BREAK;
    if (joined) found.at(-1).push(at);
    else found.push([at]);
    previous = at;
  });
  return found;
}

function path(corners) {
  const text = corners.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
  // A single point is a short stroke.
  return `M${text}${corners.length === 1 ? "h0.01" : ""}`;
}

function nice(step) {
  const power = 10 ** Math.floor(Math.log10(step || 1));
  const factor = [1, 2, 2.5, 5, 10].find((candidate) => candidate * power >= step) ?? 10;
  return factor * power;
}

function linear(bottom, top) {
  const step = nice((top - bottom) / 3.001);
  return Array.from({ length: Math.floor((top - bottom) / step + 1.001) }, (_, at) => bottom + at * step);
}

function decades(bottom, top) {
  const from = Math.round(Math.log10(bottom));
  const all = Array.from({ length: Math.round(Math.log10(top)) - from + 1 }, (_, at) => 10 ** (from + at));
  // Every second one if they would crowd.
  return all.length > 5 ? all.filter((_, at) => at % 2 === 0) : all;
}
