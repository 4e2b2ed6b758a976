// Policies of several runs on one game: a table of actions and a tree of information sets, both searched at once.

const REACHED = 1e-6; // a player's own choices lead there more often than this

class PoliciesView {
  constructor(block) {
    this.spec = heldBy(block);
    this.index();
    this.query = [];
    this.player = -1;
    this.onlyReached = false;
    this.order = { by: "game", down: false };
    this.status = make("p", { class: "status", role: "status" });
    const note = block.querySelector(".note");
    block.append(this.controls(), this.status);
    this.table = new ActionTable(this, block);
    if (this.isTree) this.tree = new InfosetTree(this, block);
    if (note) block.append(note);
    this.view("table");
  }

  // All players' infosets and actions in one numbering.
  index() {
    const { players, runs } = this.spec;
    this.isTree = players.every((player) => player.parents) && players.some((player) => player.infosets.length > 1);
    [this.infosets, this.actions, this.owner, this.first, this.parent, this.playerOf] = [[], [], [], [], [], []];
    this.chances = runs.map(() => []);
    players.forEach((player, p) => {
      const before = this.actions.length;
      player.infosets.forEach((label, i) => {
        const above = player.parents ? player.parents[i] : -1;
        this.parent.push(above < 0 ? -1 : before + above);
        this.first.push(this.actions.length);
        this.playerOf.push(p);
        const start = this.actions.length - before;
        for (let a = 0; a < player.counts[i]; a++) {
          this.owner.push(this.infosets.length);
          this.actions.push(player.actions[start + a]);
        }
        this.infosets.push(label);
      });
      player.probabilities.forEach((of, run) => { for (const p of of) this.chances[run].push(p); });
    });
    this.first.push(this.actions.length);
    this.text = this.actions.map((action, s) => {
      const j = this.owner[s];
      return `${players[this.playerOf[j]].name} ${this.infosets[j]} ${action}`.toLowerCase();
    });
    this.reach = this.chances.map((chances) => {
      const reach = new Float64Array(this.infosets.length);
      this.parent.forEach((above, j) => { reach[j] = above < 0 ? 1 : reach[this.owner[above]] * chances[above]; });
      return reach;
    });
  }

  controls() {
    const { players } = this.spec;
    const bar = make("div", { class: "controls" });
    if (this.isTree) {
      const tab = (name, text) => make("button", { type: "button", class: "tab", "data-view": name, "aria-pressed": "false", on: { click: () => this.view(name) } }, text);
      bar.append(make("span", { class: "tabs", role: "group", "aria-label": "View" }, tab("table", "Table"), tab("tree", "Tree")));
    }
    bar.append(searchField("Search", (query) => { this.query = wordsOf(query); this.refresh(); }));
    if (players.length > 1) {
      const names = [[-1, "all"], ...players.map((player, p) => [p, player.name])];
      bar.append(choice("Player", names, (p) => { this.player = Number(p); this.refresh(); }));
    }
    if (this.isTree) bar.append(tick("only where the policy goes", (on) => { this.onlyReached = on; this.refresh(); }));
    this.bar = bar;
    return bar;
  }

  view(name) {
    this.shownView = name;
    for (const tab of this.bar.querySelectorAll("[data-view]")) tab.setAttribute("aria-pressed", String(tab.dataset.view === name));
    this.table.element.hidden = name !== "table";
    if (this.tree) this.tree.element.hidden = name !== "tree";
    this.refresh();
  }

  reached(j) {
    return Math.max(...this.reach.map((of) => of[j]));
  }

  fits(s) {
    const j = this.owner[s];
    if (this.player >= 0 && this.playerOf[j] !== this.player) return false;
    if (this.onlyReached && this.reached(j) <= REACHED) return false;
    return this.query.every((word) => this.text[s].includes(word));
  }

  refresh() {
    this.found = [];
    for (let s = 0; s < this.actions.length; s++) if (this.fits(s)) this.found.push(s);
    const sets = new Set(this.found.map((s) => this.owner[s]));
    const [n, all] = [this.found.length, this.actions.length].map((count) => count.toLocaleString("en"));
    const [i, whole] = [sets.size, this.infosets.length].map((count) => count.toLocaleString("en"));
    this.status.textContent = `${n} of ${all} actions at ${i} of ${whole} information sets`;
    (this.shownView === "tree" ? this.tree : this.table).refresh();
  }

  // Bars of all runs for an action, with figures.
  bars(s) {
    return this.chances.map((chances, run) => {
      const fill = make("i", { "aria-hidden": "true" });
      fill.style.width = `${100 * Math.min(1, chances[s])}%`;
      fill.style.background = `var(--c${this.spec.numbers[run] % COLOURS})`;
      const bar = make("span", { class: "bar", "aria-hidden": "true" }, fill);
      return make("span", { class: "chance", role: "cell" }, bar, make("span", { class: "number" }, percent(chances[s])));
    });
  }
}

class ActionTable {
  constructor(of, block) {
    this.of = of;
    const runs = of.spec.runs;
    const many = runs.length > 1;
    this.head = make("div", { class: "row head", role: "row", "aria-rowindex": "1" });
    this.columns = [["game", "Information set"], ["action", "Action"], ...runs.map((name, run) => [run, many ? name : "Probability"])];
    if (of.isTree) this.columns.push(["reach", "Reached"]);
    if (many) this.columns.push(["spread", "Largest difference"]);
    this.buttons = this.columns.map(([by, name]) => {
      const button = make("button", { type: "button", title: name, on: { click: () => this.sort(by) } }, make("bdi", {}, name));
      const cell = make("span", { role: "columnheader", class: by === "game" ? "infoset" : by === "action" ? "action" : "chance" }, button);
      this.head.append(cell);
      return [by, cell];
    });
    this.element = make("div", { class: "grid", role: "table", tabindex: "0", "aria-label": `Policy of ${of.spec.caption}` }, this.head);
    this.element.style.setProperty("--runs", this.columns.length - 2);
    block.append(this.element);
    this.rows = new Rows(this.element, (i) => this.row(i));
    this.mark();
  }

  sort(by) {
    const order = this.of.order;
    this.of.order = { by, down: order.by === by ? !order.down : typeof by === "number" || by === "reach" || by === "spread" };
    this.mark();
    this.refresh();
    this.element.scrollTop = 0;
  }

  mark() {
    for (const [by, cell] of this.buttons) {
      const { by: now, down } = this.of.order;
      cell.setAttribute("aria-sort", by !== now ? "none" : down ? "descending" : "ascending");
    }
  }

  value(by, s) {
    const of = this.of;
    if (by === "reach") return of.reached(of.owner[s]);
    if (by === "spread") return this.spread(s);
    return by === "game" ? s : of.chances[by][s];
  }

  spread(s) {
    const all = this.of.chances.map((chances) => chances[s]);
    return Math.max(...all) - Math.min(...all);
  }

  refresh() {
    const { by, down } = this.of.order;
    const sign = down ? -1 : 1;
    const sorted = [...this.of.found];
    if (by === "action") sorted.sort((a, b) => sign * this.of.actions[a].localeCompare(this.of.actions[b]) || a - b);
    else if (by !== "game" || down) {
      const keys = new Map(sorted.map((s) => [s, this.value(by, s)]));
      sorted.sort((a, b) => sign * (keys.get(a) - keys.get(b)) || a - b);
    }
    this.sorted = sorted;
    this.element.setAttribute("aria-rowcount", String(sorted.length + 1));
    this.rows.show(sorted.length);
  }

  row(i) {
    const of = this.of;
    const s = this.sorted[i];
    const j = of.owner[s];
    const again = i > 0 && of.owner[this.sorted[i - 1]] === j;
    const player = make("span", { class: "player" }, of.spec.players[of.playerOf[j]].name);
    const infoset = make("span", { class: again ? "infoset again" : "infoset", role: "rowheader", title: of.infosets[j] }, player, make("bdi", {}, of.infosets[j]));
    const action = make("span", { class: "action", role: "cell", title: of.actions[s] }, make("bdi", {}, of.actions[s]));
    const cells = [infoset, action, ...of.bars(s)];
    const figure = (value) => make("span", { class: "chance", role: "cell" }, make("span", { class: "number" }, percent(value)));
    if (of.isTree) cells.push(figure(of.reached(j)));
    if (of.chances.length > 1) cells.push(figure(this.spread(s)));
    return make("div", { class: again ? "row" : "row begins", role: "row", "aria-rowindex": String(i + 2) }, ...cells);
  }
}

// Nodes of the tree are numbers: infosets, then actions, then players.
class InfosetTree {
  constructor(of, block) {
    this.of = of;
    [this.nInfosets, this.nActions] = [of.infosets.length, of.actions.length];
    this.below = new Map();
    of.infosets.forEach((_, j) => {
      const above = of.parent[j] < 0 ? this.nInfosets + this.nActions + of.playerOf[j] : this.nInfosets + of.parent[j];
      if (!this.below.has(above)) this.below.set(above, []);
      this.below.get(above).push(j);
    });
    this.roots = of.spec.players.map((_, p) => this.nInfosets + this.nActions + p).filter((root) => this.below.has(root));
    this.open = new Set(this.roots);
    this.active = 0;
    this.name = `tree-${document.querySelectorAll('[role="tree"]').length}`;
    const button = (text, action) => make("button", { type: "button", on: { click: action } }, text);
    const all = () => { for (let node = 0; node < this.nInfosets + this.nActions; node++) this.open.add(node); this.refresh(); };
    const none = () => { this.open = new Set(this.roots); this.refresh(); };
    this.box = make("div", {
      class: "tree", role: "tree", tabindex: "0", "aria-label": `Tree of ${of.spec.caption}`,
      on: { keydown: (event) => this.key(event), focus: () => this.mark(), blur: () => this.mark() },
    });
    const runs = of.spec.runs.map((name, run) => {
      const swatch = make("i", { class: "swatch", "aria-hidden": "true" });
      swatch.style.setProperty("--ink", `var(--c${of.spec.numbers[run] % COLOURS})`);
      return make("span", { class: "chance" }, swatch, make("bdi", {}, name));
    });
    if (runs.length > 1) this.box.append(make("div", { class: "row head", "aria-hidden": "true" }, make("span"), ...runs));
    this.element = make("div", { class: "treebox", hidden: true }, make("div", { class: "controls" }, button("Open all", all), button("Close all", none)), this.box);
    this.element.style.setProperty("--runs", of.spec.runs.length);
    block.append(this.element);
    this.rows = new Rows(this.box, (i) => this.row(i));
  }

  kind(node) {
    return node < this.nInfosets ? "infoset" : node < this.nInfosets + this.nActions ? "action" : "player";
  }

  children(node) {
    if (this.kind(node) !== "infoset") return this.below.get(node) ?? [];
    const of = this.of;
    return Array.from({ length: of.first[node + 1] - of.first[node] }, (_, a) => this.nInfosets + of.first[node] + a);
  }

  // With a search or a filter only what was found is there, and what leads to it, and all of it is open.
  refresh() {
    const of = this.of;
    const filtered = of.query.length > 0 || of.player >= 0 || of.onlyReached;
    this.kept = filtered ? this.leadingTo(of.found) : null;
    const opened = of.query.length > 0 ? this.kept : this.open;
    this.list = [];
    this.levels = [];
    this.places = [];
    const visit = [];
    const push = (nodes, level) => {
      const there = this.kept ? nodes.filter((node) => this.kept.has(node)) : nodes;
      for (let k = there.length - 1; k >= 0; k--) visit.push([there[k], level, k + 1, there.length]);
    };
    push(this.roots, 1);
    while (visit.length) {
      const [node, level, place, size] = visit.pop();
      this.list.push(node);
      this.levels.push(level);
      this.places.push([place, size]);
      if (opened.has(node)) push(this.children(node), level + 1);
    }
    this.opened = opened;
    this.active = Math.min(this.active, Math.max(0, this.list.length - 1));
    this.rows.show(this.list.length);
    this.mark();
  }

  leadingTo(found) {
    const of = this.of;
    const kept = new Set();
    for (let s of found) {
      while (s >= 0 && !kept.has(this.nInfosets + s)) {
        const j = of.owner[s];
        kept.add(this.nInfosets + s);
        kept.add(j);
        kept.add(this.nInfosets + this.nActions + of.playerOf[j]);
        s = of.parent[j];
      }
    }
    return kept;
  }

  row(i) {
    const node = this.list[i];
    const kind = this.kind(node);
    const kids = this.children(node).length > 0;
    const isOpen = kids && this.opened.has(node);
    const chevron = make("span", { class: "chevron", "aria-hidden": "true" }, kids ? (isOpen ? "▾" : "▸") : "");
    const parts = this.parts(node, kind);
    const [place, size] = this.places[i];
    const element = make("div", {
      class: `row is-${kind}${i === this.active ? " active" : ""}`, role: "treeitem", id: `${this.name}-${i}`, "aria-level": String(this.levels[i]),
      "aria-posinset": String(place), "aria-setsize": String(size), "aria-expanded": kids ? String(isOpen) : null, "aria-label": this.spoken(node, kind),
      on: { click: () => { this.active = i; if (kids) this.toggle(node); else this.mark(); } },
    }, make("span", { class: "node" }, chevron, parts[0]), ...parts.slice(1));
    element.style.setProperty("--level", Math.min(this.levels[i] - 1, 12));
    return element;
  }

  // An action's probabilities with the names of the runs, which stand above the tree only.
  spoken(node, kind) {
    const of = this.of;
    if (kind !== "action" || of.spec.runs.length < 2) return null;
    const s = node - this.nInfosets;
    return `${of.actions[s]}: ${of.spec.runs.map((name, run) => `${name} ${percent(of.chances[run][s])}`).join(", ")}`;
  }

  parts(node, kind) {
    const of = this.of;
    if (kind === "player") {
      return [make("span", { class: "label" }, `${of.spec.players[node - this.nInfosets - this.nActions].name} player`)];
    }
    if (kind === "action") {
      const s = node - this.nInfosets;
      return [make("span", { class: "label" }, make("bdi", {}, of.actions[s])), ...of.bars(s)];
    }
    const reached = of.parent[node] < 0 ? "" : `reached ${percent(of.reached(node))}`;
    const label = make("span", { class: "label", title: of.infosets[node] }, make("bdi", {}, of.infosets[node]), make("span", { class: "reached" }, reached));
    return [label, ...of.chances.map((chances) => this.likeliest(node, chances))];
  }

  // What a run mostly does at an infoset.
  likeliest(node, chances) {
    const of = this.of;
    let best = of.first[node];
    for (let s = best; s < of.first[node + 1]; s++) if (chances[s] > chances[best]) best = s;
    return make("span", { class: "likeliest" }, make("bdi", {}, of.actions[best]), ` ${percent(chances[best])}`);
  }

  toggle(node) {
    if (this.open.has(node)) this.open.delete(node);
    else this.open.add(node);
    const top = this.box.scrollTop;
    this.refresh();
    this.box.scrollTop = top;
  }

  mark() {
    for (const [i, element] of this.rows.there) element.classList.toggle("active", i === this.active);
    if (this.list.length) this.box.setAttribute("aria-activedescendant", `${this.name}-${this.active}`);
  }

  go(i) {
    this.active = Math.max(0, Math.min(this.list.length - 1, i));
    this.rows.into(this.active);
    this.mark();
  }

  key(event) {
    const i = this.active;
    const node = this.list[i];
    if (node === undefined) return;
    const isOpen = this.opened.has(node);
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW) - 1);
    const above = () => {
      let k = i - 1;
      while (k > 0 && this.levels[k] >= this.levels[i]) k--;
      return k;
    };
    const keys = {
      ArrowDown: () => this.go(i + 1), ArrowUp: () => this.go(i - 1), Home: () => this.go(0), End: () => this.go(this.list.length - 1),
      PageDown: () => this.go(i + page), PageUp: () => this.go(i - page),
      ArrowRight: () => (isOpen || !this.children(node).length ? this.go(i + 1) : this.toggle(node)),
      ArrowLeft: () => (isOpen && this.children(node).length && !this.of.query.length ? this.toggle(node) : this.go(above())),
      Enter: () => this.toggle(node), " ": () => this.toggle(node),
    };
    if (!(event.key in keys)) return;
    keys[event.key]();
    event.preventDefault();
  }
}
