// Answers side by side with the judge's verdict: those of one round or of one model, won or lost, or with a word in them.

const PAGE = 10;
const MOST_PRINTED_ANSWERS = 30;

class AnswersView {
  constructor(block) {
    this.spec = heldBy(block);
    this.newest = this.spec.runs.map((_, run) => Math.max(-1, ...this.spec.answers.filter((one) => one[0] === run).map((one) => one[1] ?? -1)));
    this.models = [...new Set(this.spec.sides.flat())];
    this.chosen = { run: -1, model: -1, round: "newest", verdict: "all", words: [] };
    this.page = 0;
    this.status = make("p", { class: "status", role: "status" });
    this.list = make("div", { class: "samples" });
    this.pager = make("div", { class: "controls pager", role: "group", "aria-label": "Pages" });
    const note = block.querySelector(".note");
    block.append(this.controls(), this.status, this.list, this.pager);
    if (note) block.append(note);
    onPrint.push((printing) => { this.printing = printing; this.show(); });
    this.refresh();
  }

  controls() {
    const bar = make("div", { class: "controls" });
    const set = (name) => (value) => { this.chosen[name] = value; this.refresh(); };
    if (this.spec.runs.length > 1) {
      bar.append(choice("Run", [[-1, "all"], ...this.spec.runs.map((name, run) => [run, name])], (run) => set("run")(Number(run))));
    }
    if (this.models.length > 2) {
      bar.append(choice("Model", [[-1, "all"], ...this.models.map((name, i) => [i, name])], (model) => set("model")(Number(model))));
    }
    const rounds = [...new Set(this.spec.answers.map((one) => one[1]))].filter((round) => round !== null).sort((a, b) => a - b);
    if (rounds.length > 1) {
      bar.append(choice("Round", [["newest", "the newest"], ["all", "all"], ...rounds.map((round) => [round, String(round)])], set("round")));
    }
    this.verdicts = make("fieldset", { class: "verdicts" }, make("legend", { class: "unseen" }, "Verdict"));
    this.counts = {};
    this.names = {};
    const group = `verdict-${document.querySelectorAll("fieldset.verdicts").length}`;
    for (const value of Object.keys(this.verdictNames())) {
      const radio = make("input", { type: "radio", name: group, value, checked: value === "all", on: { change: () => set("verdict")(value) } });
      this.counts[value] = make("span", { class: "count" });
      this.names[value] = make("bdi");
      this.verdicts.append(make("label", { class: "tick" }, radio, this.names[value], this.counts[value]));
    }
    bar.append(searchField("Search", (query) => set("words")(wordsOf(query))), this.verdicts);
    return bar;
  }

  verdictNames() {
    const { run, model } = this.chosen;
    const alike = this.spec.sides.every((sides) => String(sides) === String(this.spec.sides[0]));
    const [first, second] = run >= 0 || alike ? this.spec.sides[Math.max(run, 0)] : ["the first one", "the second one"];
    const won = model < 0 ? [`${second} wins`, `${first} wins`] : [`${this.models[model]} wins`, `${this.models[model]} loses`];
    return { all: "all", second: won[0], first: won[1], tie: "ties", none: "no verdict" };
  }

  // Whether an answer's sides change places: the model that is looked at stands on the right.
  turned(one) {
    const { model } = this.chosen;
    return model >= 0 && this.spec.sides[one[0]][0] === this.models[model];
  }

  verdict(one) {
    const preference = one[5];
    if (preference === null) return "none";
    return preference === 0.5 ? "tie" : preference > 0.5 !== this.turned(one) ? "second" : "first";
  }

  fits(one) {
    const { run, model, round, words } = this.chosen;
    if (run >= 0 && one[0] !== run) return false;
    if (model >= 0 && !this.spec.sides[one[0]].includes(this.models[model])) return false;
    if (round === "newest" ? (one[1] ?? -1) !== this.newest[one[0]] : round !== "all" && String(one[1]) !== round) return false;
    if (!words.length) return true;
    const text = `${one[2]} ${one[3]} ${one[4]}`.toLowerCase();
    return words.every((word) => text.includes(word));
  }

  refresh() {
    const fitting = this.spec.answers.filter((one) => this.fits(one));
    for (const [value, name] of Object.entries(this.verdictNames())) {
      this.names[value].textContent = name;
      const n = value === "all" ? fitting.length : fitting.filter((one) => this.verdict(one) === value).length;
      this.counts[value].textContent = n.toLocaleString("en");
    }
    this.found = this.chosen.verdict === "all" ? fitting : fitting.filter((one) => this.verdict(one) === this.chosen.verdict);
    this.page = 0;
    this.show();
  }

  show() {
    const all = this.found.length;
    const first = this.page * PAGE;
    const last = Math.min(all, first + PAGE);
    const printed = Math.min(all, MOST_PRINTED_ANSWERS); // at even distances, so that every run and prompt has its part
    const shown = this.printing ? Array.from({ length: printed }, (_, i) => this.found[Math.floor((i * all) / printed)]) : this.found.slice(first, last);
    const which = this.printing ? printed : `${first + 1} to ${last}`;
    this.status.textContent = all ? `${which} of ${all.toLocaleString("en")} pairs of answers` : "no such answers";
    this.list.replaceChildren(...shown.map((one) => this.sample(one)));
    const pages = Math.ceil(this.found.length / PAGE);
    const button = (text, page) => make("button", { type: "button", disabled: page < 0 || page >= pages, on: { click: () => { this.page = page; this.show(); } } }, text);
    this.pager.hidden = pages < 2;
    this.pager.replaceChildren(button("Previous", this.page - 1), make("span", {}, `page ${this.page + 1} of ${pages}`), button("Next", this.page + 1));
  }

  sample(one) {
    const [run, round, prompt, first, second, preference] = one;
    const verdict = this.verdict(one);
    const where = [this.spec.runs.length > 1 ? this.spec.runs[run] : null, round === null ? null : `round ${round}`].filter(Boolean).join(", ");
    const rounded = (share) => `${Number((100 * share).toFixed(1))} %`;
    const side = (name, text, share, won) => {
      const badge = make("span", { class: `badge ${won ? "good" : "open"}` }, won ? `preferred, ${rounded(share)}` : share === null ? "no verdict" : verdict === "tie" ? "tie" : rounded(share));
      const body = text ? make("p", { class: "text", dir: "auto" }, text) : make("p", { class: "text nothing" }, "(nothing)");
      return make("div", { class: won ? "side won" : "side" }, make("h4", {}, make("bdi", {}, name), " ", badge), body);
    };
    const other = preference === null ? null : 1 - preference;
    const [left, right] = this.spec.sides[run];
    const both = [[left, first, other], [right, second, preference]];
    if (this.turned(one)) both.reverse();
    return make("article", {},
      make("p", { class: "where" }, where),
      make("p", { class: "text prompt", dir: "auto" }, prompt),
      make("div", { class: "sides" }, side(...both[0], verdict === "first"), side(...both[1], verdict === "second")));
  }
}
