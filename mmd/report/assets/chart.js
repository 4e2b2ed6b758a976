// Curves, drawn by uPlot: what is under the pointer, zoom, lines that can be hidden; by mouse, keyboard and button.

const COLOURS = 8;
const DASHES = [[], [8, 4], [2, 4], []];
const HEIGHTS = { large: 380, small: 230 };
const NUMBERS = 100; // rows of a chart's table

// Powers of ten between two numbers, at most so many; within a decade or so also their doubles and halves.
function decadesOf(least, most, count) {
  if (!(least > 0 && most < Infinity)) return []; // nothing is drawn
  const [low, high] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  if (high - low <= 2) {
    const found = [];
    for (let power = low; power <= high; power++) for (const k of [1, 2, 5]) found.push(k * 10 ** power);
    return found.filter((value) => value >= least && value <= most);
  }
  const step = Math.max(1, Math.ceil((high - low) / count));
  return Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, k) => Number(`1e${high - k * step}`)).reverse();
}

class ChartView {
  constructor(figure) {
    this.figure = figure;
    this.spec = heldBy(figure);
    this.small = figure.classList.contains("small");
    [this.x, this.y] = [this.spec.xs[0], this.spec.ys[0]];
    this.logX = this.x.log;
    this.logY = this.y.log;
    this.hidden = new Set();
    this.plot = make("div", {
      class: "plot", tabindex: "0", role: "group", "aria-roledescription": "chart",
      on: { keydown: (event) => this.key(event), blur: () => this.point(null) },
    });
    this.keys = make("ul", { class: "keys" });
    this.at = make("p", { class: "at", "aria-hidden": "true" });
    this.told = make("p", { class: "unseen", role: "status" });
    this.numbers = make("details", { class: "numbers", on: { toggle: () => this.fill() } }, make("summary", {}, "Numbers"));
    const foot = figure.querySelector("figcaption");
    figure.append(this.controls(), this.plot, this.at, this.keys, this.told, this.numbers);
    if (foot) figure.append(foot);
    this.build();
    this.width = this.plot.clientWidth;
    new ResizeObserver(() => {
      if (!this.printing && this.plot.clientWidth && this.plot.clientWidth !== this.width) {
        this.width = this.plot.clientWidth;
        this.u.setSize(this.size());
      }
    }).observe(this.plot);
    onTheme.push(() => this.build());
    onPrint.push((printing) => {
      this.printing = printing;
      this.build();
    });
  }

  controls() {
    const { xs, ys } = this.spec;
    const bar = make("div", { class: "controls" });
    if (ys.length > 1) {
      bar.append(choice("Shown", ys.map((one, i) => [i, one.label]), (i) => {
        this.y = ys[i];
        this.logY = this.y.log;
        if (this.logBox) this.logBox.querySelector("input").checked = this.logY;
        this.build();
      }));
    }
    if (xs.length > 1) {
      bar.append(choice("Against", xs.map((one, i) => [i, one.label]), (i) => {
        this.x = xs[i];
        this.build();
      }));
    }
    if (!this.small) {
      this.logBox = tick("log vertical", (on) => { this.logY = on; this.build(); });
      this.logBox.querySelector("input").checked = this.logY;
      bar.append(this.logBox, tick("log horizontal", (on) => { this.logX = on; this.build(); }));
    }
    const button = (text, label, action) => make("button", { type: "button", "aria-label": label, title: label, on: { click: action } }, text);
    bar.append(make("span", { class: "zoom", role: "group", "aria-label": "Zoom" },
      button("+", "Zoom in", () => this.zoom(0.5)), button("−", "Zoom out", () => this.zoom(2)),
      button("Reset", "Show all", () => this.reset())));
    return bar;
  }

  // Lines that have both columns, as pairs of arrays in ascending x without what the scales cannot show.
  lines() {
    const found = [];
    for (const line of this.spec.lines) {
      const [xs, ys] = [line.columns[this.x.column], line.columns[this.y.column]];
      if (!xs || !ys) continue;
      const fits = (i) => xs[i] !== null && ys[i] !== null && !(this.logX && xs[i] <= 0) && !(this.logY && ys[i] <= 0);
      const order = xs.map((_, i) => i).filter(fits).sort((i, j) => xs[i] - xs[j]);
      if (!order.length) continue;
      const [low, high] = ["low", "high"].map((side) => line.columns[`${this.y.column}_${side}`]);
      const of = (column) => order.map((i) => column[i]);
      found.push({ ...line, x: of(xs), y: of(ys), low: low && of(low), high: high && of(high) });
    }
    return found;
  }

  levels(lines) {
    let [least, most] = [Infinity, -Infinity];
    for (const line of lines) {
      for (const value of line.y) {
        least = Math.min(least, value);
        most = Math.max(most, value);
      }
    }
    const near = (value) => !this.logY || (value >= least / 10 && value <= most * 10);
    return this.spec.levels.filter((level) => level.column === this.y.column && near(level.value) && !(this.logY && level.value <= 0));
  }

  build() {
    if (this.u) this.u.destroy();
    this.shown = this.lines();
    const levels = this.shown.length ? this.levels(this.shown) : [];
    const ends = [Infinity, -Infinity];
    for (const line of this.shown) {
      ends[0] = Math.min(ends[0], line.x[0]);
      ends[1] = Math.max(ends[1], line.x[line.x.length - 1]);
    }
    const [tables, series, bands] = [[], [{ label: this.x.label }], []];
    this.first = []; // number of the series of each line
    this.shown.forEach((line, i) => {
      const above = this.shown.slice(i + 1).filter((other) => String(other.x) === String(line.x) && String(other.y) === String(line.y));
      const ink = colour(`c${line.run % COLOURS}`);
      const whole = line.low && line.high;
      this.first.push(series.length);
      tables.push([line.x, line.y, ...(whole ? [line.low, line.high] : [])]);
      series.push({
        label: line.label, stroke: ink, width: line.style === 3 ? 0 : 2 + 3 * above.length, dash: DASHES[line.style], show: !this.hidden.has(line.label),
        points: { show: line.style === 3 || line.x.length < 30, size: line.style === 3 ? 9 : 5, fill: ink },
      });
      if (whole) {
        const side = { stroke: "transparent", width: 0, points: { show: false }, show: !this.hidden.has(line.label) };
        series.push({ ...side }, { ...side });
        bands.push({ series: [series.length - 1, series.length - 2], fill: `${ink}2e` });
      }
    });
    for (const level of levels) {
      tables.push([ends[0] < ends[1] ? ends : [ends[0]], ends[0] < ends[1] ? [level.value, level.value] : [level.value]]);
      series.push({ label: level.label, stroke: colour("soft"), width: 1, dash: [2, 3], points: { show: false } });
    }
    this.u = new uPlot(this.options(series, bands), tables.length ? uPlot.join(tables) : [[], []], this.plot);
    this.plot.setAttribute("aria-label", this.summary());
    this.name(levels);
    this.point(null);
    this.fill();
  }

  size() {
    const width = this.printing ? (this.small ? 320 : 660) : Math.max(240, this.plot.clientWidth);
    return { width, height: Math.min(HEIGHTS[this.small ? "small" : "large"], Math.max(220, 0.75 * width)) };
  }

  options(series, bands) {
    const [ink, grid] = [colour("soft"), colour("rule")];
    const font = "12px system-ui, sans-serif";
    const axis = { stroke: ink, font, labelFont: font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
    const decades = { filter: (_, splits) => splits, splits: (u, i, least, most) => decadesOf(least, most, this.small ? 4 : 7) };
    const values = (_, splits) => splits.map((split) => (split === null ? "" : shown(split)));
    const scale = (log) => (log ? { distr: 3 } : {});
    const bounds = this.y.bounds && !this.logY ? { range: this.y.bounds } : {};
    return {
      ...this.size(), series, bands, legend: { show: false },
      cursor: { drag: { x: true, y: true, uni: 40 }, focus: { prox: 24 }, points: { size: 8 } },
      focus: { alpha: 0.35 },
      scales: { x: { time: false, ...scale(this.logX) }, y: { ...scale(this.logY), ...bounds } },
      axes: [
        { ...axis, label: this.x.label, labelSize: 18, size: 30, values, ...(this.logX ? decades : this.whole()) },
        { ...axis, label: this.small ? undefined : this.y.label, labelSize: 26, size: 52, values, ...(this.logY ? decades : {}) },
      ],
      hooks: { setCursor: [() => this.read()] },
    };
  }

  // Steps of an axis that counts.
  whole() {
    if (!this.shown.every((line) => line.x.every(Number.isInteger))) return {};
    return { incrs: Array.from({ length: 45 }, (_, k) => [1, 2, 5][k % 3] * 10 ** Math.floor(k / 3)) };
  }

  summary() {
    const parts = this.shown.map((line) => {
      const n = line.y.length - 1;
      return `${line.label}: from ${shown(line.y[0])} to ${shown(line.y[n])} at ${shown(line.x[n])} ${this.x.label}`;
    });
    const how = "Arrow keys read values, plus and minus zoom, Escape shows all.";
    return `${this.y.label} against ${this.x.label}. ${parts.slice(0, 12).join("; ") || "Nothing to draw"}. ${how}`;
  }

  // The names of the lines: buttons that hide and show them, with the value under the pointer.
  name(levels) {
    this.values = [];
    const items = this.shown.map((line) => {
      const value = make("output", { class: "number" });
      this.values.push(value);
      const swatch = make("i", { class: `swatch style-${line.style}`, "aria-hidden": "true" });
      swatch.style.setProperty("--ink", `var(--c${line.run % COLOURS})`);
      const button = make("button", {
        type: "button", "aria-pressed": String(!this.hidden.has(line.label)), title: "Hide or show",
        on: { click: () => this.toggle(line.label, button) },
      }, swatch, make("bdi", {}, line.label), value);
      return make("li", {}, button);
    });
    const drawn = levels.map((level) => make("li", { class: "level" }, make("i", { class: "swatch level" }), level.label));
    this.keys.replaceChildren(...items, ...drawn);
  }

  toggle(label, button) {
    const show = this.hidden.delete(label) || !this.hidden.add(label);
    button.setAttribute("aria-pressed", String(show));
    this.shown.forEach((line, i) => {
      if (line.label !== label) return;
      const parts = line.low && line.high ? 3 : 1;
      for (let k = 0; k < parts; k++) this.u.setSeries(this.first[i] + k, { show });
    });
  }

  // The newest value of each line at or before the pointer.
  under(at) {
    return this.shown.map((line) => {
      let [low, high] = [0, line.x.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (line.x[middle] <= at) low = middle + 1;
        else high = middle;
      }
      return low ? line.y[low - 1] : null;
    });
  }

  read() {
    if (!this.values) return;
    const i = this.u.cursor.idx;
    const at = i === null || i === undefined ? null : this.u.data[0][i];
    this.at.textContent = at === null ? (this.small ? " " : "Drag to zoom, double-click to see everything again.") : `${this.x.label} ${shown(at)}`;
    const found = at === null ? [] : this.under(at);
    this.values.forEach((value, k) => { value.textContent = at === null ? "" : shown(found[k]); });
  }

  point(i) {
    this.pointed = i;
    if (!this.u) return;
    if (i === null) return this.u.setCursor({ left: -10, top: -10 });
    const at = this.u.data[0][i];
    this.u.setCursor({ left: this.u.valToPos(at, "x"), top: this.u.over.clientHeight / 2 });
    const said = this.under(at).map((value, k) => `${this.shown[k].label} ${shown(value)}`);
    this.told.textContent = `${this.x.label} ${shown(at)}: ${said.join(", ")}`;
  }

  key(event) {
    const n = this.u.data[0].length;
    const step = Math.max(1, Math.round(n / 50));
    const moves = { ArrowRight: step, ArrowLeft: -step, Home: -n, End: n };
    if (event.key in moves && n) {
      const from = this.pointed ?? (moves[event.key] > 0 ? -step : n);
      this.point(Math.min(n - 1, Math.max(0, from + moves[event.key])));
    } else if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else if (event.key === "Escape" || event.key === "0") this.reset();
    else return;
    event.preventDefault();
  }

  zoom(factor) {
    const { left } = this.u.cursor;
    const width = this.u.over.clientWidth;
    const centre = left >= 0 ? left : width / 2;
    const ends = [centre - factor * centre, centre + factor * (width - centre)].map((position) => this.u.posToVal(position, "x"));
    this.u.setScale("x", { min: ends[0], max: ends[1] });
  }

  reset() {
    this.u.setData(this.u.data, true);
  }

  fill() {
    if (!this.numbers.open) return;
    const rows = this.u.data[0];
    const step = Math.max(1, Math.ceil(rows.length / NUMBERS));
    const head = make("tr", {}, ...[this.x.label, ...this.shown.map((line) => line.label)].map((name) => make("th", { scope: "col" }, name)));
    const body = make("tbody");
    for (let i = 0; i < rows.length; i += step) {
      const cells = this.under(rows[i]).map((value) => make("td", {}, shown(value)));
      body.append(make("tr", {}, make("th", { scope: "row" }, shown(rows[i])), ...cells));
    }
    const table = make("table", { class: "facts" }, make("caption", {}, `${this.y.label}, ${body.rows.length} rows`), make("thead", {}, head), body);
    const [summary] = this.numbers.children;
    this.numbers.replaceChildren(summary, make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Numbers of the chart" }, table));
  }
}
