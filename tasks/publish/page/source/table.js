// The table of the features that are shown: only the rows in sight are elements of the page.

const ROW = 31; // pixels, as page.css has it with the line below
const BEYOND = 8; // rows above and below those in sight
const FIRST_ORDER = { class: 1, score: -1, size: -1, place: 1 };

class Table {
  constructor(filter, drawing, choose) {
    Object.assign(this, { filter, drawing, choose, order: "score", direction: -1, selected: -1 });
    this.placed = filter.count > 0 && drawing.columns.places.some((part) => part !== -(2 ** 31));
    byId("place-title").textContent = this.placed ? "Lat, lon" : "x, y";
    this.scroller = byId("scroller");
    this.drawSoon = eachFrame(() => this.draw());
    this.scroller.addEventListener("scroll", this.drawSoon);
    new ResizeObserver(this.drawSoon).observe(this.scroller);
    for (const button of document.querySelectorAll("[data-order]")) {
      button.addEventListener("click", () => this.sortBy(button.dataset.order));
    }
    byId("rows").addEventListener("click", (event) => this.chooseRow(event.target.closest("tr.feature")));
    byId("rows").addEventListener("keydown", (event) => this.press(event));
    filter.listeners.push(() => this.list());
  }

  sortBy(order) {
    this.direction = order === this.order ? -this.direction : FIRST_ORDER[order];
    this.order = order;
    this.sorted = null;
    this.list();
  }

  /** All features in the order of the table, whatever is shown. */
  sort() {
    const { boxes, places } = this.drawing.columns;
    const size = (at) => (boxes[4 * at + 2] - boxes[4 * at]) * (boxes[4 * at + 3] - boxes[4 * at + 1]);
    const y = (at) => (this.placed ? -places[2 * at + 1] : boxes[4 * at + 1]);
    const rank = this.order === "class" ? this.ranks() : null;
    const key = { class: (at) => rank[this.filter.classes[at]], score: (at) => -at, size, place: y }[this.order];
    const keys = Float64Array.from({ length: this.filter.count }, (_, feature) => this.direction * key(feature));
    return Uint32Array.from(keys.keys()).sort((a, b) => keys[a] - keys[b] || a - b);
  }

  /** Lists the features that are shown. */
  list() {
    const { filter } = this;
    if (this.order === "score" && this.direction < 0) this.features = filter.shown;
    else {
      this.sorted ??= this.sort();
      this.features = this.sorted.filter((feature) => filter.isShown(feature));
    }
    for (const button of document.querySelectorAll("[data-order]")) {
      const own = button.dataset.order === this.order;
      button.parentElement.setAttribute("aria-sort", !own ? "none" : this.direction > 0 ? "ascending" : "descending");
    }
    byId("table-count").textContent = `${plural(this.features.length, "detection")}; click one to see it in the image`;
    document.querySelector("table").setAttribute("aria-rowcount", this.features.length + 1);
    this.drawn = null;
    this.drawSoon();
  }

  /** The places of the classes in the order of their names. */
  ranks() {
    if (!this.alphabetic) {
      const order = facts.classes.map((_, at) => at).sort((a, b) => (facts.classes[a][0] < facts.classes[b][0] ? -1 : 1));
      this.alphabetic = new Uint32Array(order.length);
      order.forEach((number, at) => (this.alphabetic[number] = at));
    }
    return this.alphabetic;
  }

  draw() {
    if (!this.scroller.clientHeight || !this.features) return;
    const above = Math.floor(this.scroller.scrollTop / ROW) - BEYOND;
    const first = Math.max(0, Math.min(above, this.features.length));
    const last = Math.min(this.features.length, first + Math.ceil(this.scroller.clientHeight / ROW) + 2 * BEYOND);
    const drawn = `${first} ${last} ${this.selected}`;
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const focused = document.activeElement?.closest?.("tr.feature")?.dataset.at;
    const rows = [];
    for (let at = first; at < last; at++) rows.push(this.row(at));
    byId("rows").replaceChildren(this.space(first), ...rows, this.space(this.features.length - last));
    const reachable = rows.find((row) => row.getAttribute("aria-selected") === "true") ?? rows[0];
    if (reachable) reachable.tabIndex = 0;
    if (focused !== undefined) byId("rows").querySelector(`[data-at="${focused}"]`)?.focus({ preventScroll: true });
  }

  space(rows) {
    const cell = make("td", { colSpan: 4 });
    cell.style.height = `${rows * ROW}px`;
    const row = make("tr", { "aria-hidden": "true" }, cell);
    row.hidden = !rows;
    return row;
  }

  row(at) {
    const feature = this.features[at], { filter, drawing } = this;
    const [x0, y0, x1, y1] = drawing.box(feature);
    const number = filter.classes[feature], [name] = facts.classes[number];
    return make(
      "tr",
      { class: "feature", tabIndex: -1, "data-at": `${at}`, "aria-rowindex": `${at + 2}`, "aria-selected": `${feature === this.selected}` },
      make("td", { title: name }, swatch(filter.colours[number]), name),
      make("td", {}, filter.scores[feature].toFixed(3)),
      make("td", {}, `${sized(x1 - x0)} × ${sized(y1 - y0)}`),
      make("td", {}, this.placed ? placeText(drawing.place(feature), 5) : `${Math.round((x0 + x1) / 2)}, ${Math.round((y0 + y1) / 2)}`),
    );
  }

  chooseRow(row) {
    if (row) this.choose(this.features[Number(row.dataset.at)]);
  }

  press(event) {
    const row = event.target.closest("tr.feature");
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (event.key === "Enter" || event.key === " ") this.chooseRow(row);
    else if (step) this.goTo(Number(row.dataset.at) + step);
    else if (event.key === "Home") this.goTo(0);
    else if (event.key === "End") this.goTo(this.features.length - 1);
    else return;
    event.preventDefault();
  }

  /** Chooses the row at a position, and keeps the keyboard on it. */
  goTo(position) {
    const at = Math.min(Math.max(position, 0), this.features.length - 1);
    if (at < 0) return;
    this.choose(this.features[at]);
    this.reveal(at);
    this.drawn = null;
    this.draw();
    byId("rows").querySelector(`[data-at="${at}"]`)?.focus({ preventScroll: true });
  }

  reveal(at) {
    const top = at * ROW, height = this.scroller.clientHeight - 2 * ROW;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top > this.scroller.scrollTop + height) this.scroller.scrollTop = top - height;
  }

  select(feature) {
    this.selected = feature;
    const at = feature < 0 ? -1 : this.features.indexOf(feature);
    if (at >= 0) this.reveal(at);
    this.drawSoon();
  }
}

const sized = (pixels) => (pixels < 10 ? pixels.toFixed(1) : `${Math.round(pixels)}`);
const placeText = (place, decimals) => (place ? `${place[1].toFixed(decimals)}, ${place[0].toFixed(decimals)}` : "–");
