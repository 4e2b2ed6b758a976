// A list of rows of equal height, of which only those in sight are in the document.

const ROW = 30; // pixels
const MOST_PRINTED = 400;

class Rows {
  // draw(i) makes the element of row i.
  constructor(scroller, draw) {
    this.scroller = scroller;
    this.draw = draw;
    this.count = 0;
    this.there = new Map();
    this.canvas = make("div", { class: "canvas", role: "presentation" });
    this.rest = make("p", { class: "rest", role: "presentation" });
    scroller.append(this.canvas);
    scroller.addEventListener("scroll", () => this.later(), { passive: true });
    new ResizeObserver(() => this.later()).observe(scroller);
    onPrint.push((printing) => this.print(printing));
  }

  show(count) {
    this.count = count;
    this.there.clear();
    this.canvas.replaceChildren();
    this.canvas.style.height = `${count * ROW}px`;
    this.render();
  }

  later() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.render();
    });
  }

  render() {
    if (this.printing) return;
    const top = this.scroller.scrollTop;
    const seen = Math.ceil(Math.max(this.scroller.clientHeight, 20 * ROW) / ROW);
    const first = Math.max(0, Math.floor(top / ROW) - 10);
    const last = Math.min(this.count, first + seen + 20);
    for (const [i, element] of this.there) {
      if (i < first || i >= last) {
        element.remove();
        this.there.delete(i);
      }
    }
    for (let i = first; i < last; i++) {
      if (!this.there.has(i)) this.put(i);
    }
  }

  put(i) {
    const element = this.draw(i);
    element.style.top = `${i * ROW}px`;
    this.there.set(i, element);
    this.canvas.append(element);
  }

  into(i) {
    const top = i * ROW;
    const height = this.scroller.clientHeight;
    const above = this.canvas.offsetTop; // of a header that stays
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top + ROW + above > this.scroller.scrollTop + height) this.scroller.scrollTop = top + ROW + above - height;
    this.render();
  }

  print(printing) {
    this.printing = printing;
    this.canvas.replaceChildren();
    this.there.clear();
    this.rest.remove();
    if (!printing) return this.render();
    if (this.scroller.offsetParent === null) return; // the other view is shown
    const n = Math.min(this.count, MOST_PRINTED);
    for (let i = 0; i < n; i++) this.put(i);
    if (n < this.count) {
      this.rest.textContent = `${n} of ${this.count.toLocaleString("en")} rows are printed; policy.csv of a run has all.`;
      this.scroller.after(this.rest);
    }
  }
}
