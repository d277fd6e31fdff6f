// Puts the page together: what it says of the run, the selection, the keyboard, the address.

const TABS = ["explore", "table", "run"];
const DEFAULT_LAYERS = { image: true, raster: true, detections: true, failed: true, blank: false, outside: true, opacity: 0.5 };

class Page {
  constructor(columns) {
    this.layers = { ...DEFAULT_LAYERS };
    this.filter = new Filter(columns);
    this.drawing = new Drawing(columns, this.filter);
    this.keepSoon = later(() => this.keepAddress(), 250);
    this.map = new ImageMap(this.drawing, this.filter, this.layers, {
      moved: () => this.keepSoon(),
      clicked: (feature, area) => this.select(feature, area),
    });
    this.layerControl = new LayerControl(this.layers, () => this.redraw());
    byId("score-block").hidden = byId("class-block").hidden = !this.filter.count;
    byId("tab-table").hidden = !this.filter.count;
    if (this.filter.count) {
      new ScoreControl(this.filter);
      new ClassControl(this.filter);
      this.table = new Table(this.filter, this.drawing, (feature) => this.show(feature));
    }
    this.filter.listeners.push(() => this.filtered());
    this.selected = this.area = -1;
    this.tell();
    this.listen();
    this.goToAddress();
  }

  async start() {
    await this.map.start();
    window.addEventListener("hashchange", () => location.hash !== this.address && this.goToAddress());
    document.documentElement.dataset.ready = "true";
  }

  /** What the page says of the run. */
  tell() {
    const name = facts.image.split("/").pop() || facts.image;
    byId("name").textContent = name;
    byId("name").title = facts.image;
    byId("status").textContent = facts.status;
    byId("status").classList.add(facts.status);
    const what = facts.features ? plural(facts.features, "detection") : facts.layer ? "Raster" : "No detections";
    byId("headline").textContent = `${what} · ${facts.covered} of the area covered · ${facts.job}`;
    for (const [label, text] of facts.rows) byId("facts-list").append(make("dt", {}, label), make("dd", {}, text));
    this.list("Why tiles failed", facts.reasons);
    this.list("Why features were left out", facts.rejections);
    this.notice();
    if (facts.look.note) {
      byId("picture-note").textContent = facts.look.note;
      byId("picture-note").hidden = false;
    }
    if (this.filter.count < facts.features) {
      const least = this.filter.scores[this.filter.count - 1].toFixed(2);
      byId("sample").textContent = `This page has the ${counted(this.filter.count)} detections with the best scores, from ${least} up, of ${counted(facts.features)}. The published files have all of them.`;
      byId("sample").hidden = false;
    }
  }

  list(title, reasons) {
    if (!reasons.length) return;
    const rows = reasons.map(([reason, tiles]) =>
      make("li", {}, make("span", {}, reason), make("span", { class: "number" }, plural(tiles, "tile"))));
    byId("reasons").append(make("h2", {}, title), make("ul", {}, ...rows));
  }

  notice() {
    const element = byId("notice"), [reason] = facts.reasons;
    const why = reason ? `${reason[0]}${facts.reasons.length > 1 ? ` (and ${plural(facts.reasons.length - 1, "other reason")}, see Run)` : ""}` : "";
    const failed = plural(facts.tiles.failed, "tile");
    const asked = facts.tiles.inferred;
    let title = "", text = why;
    if (facts.status === "FAILED") title = facts.tiles.failed ? `Nothing was found: ${failed} failed, and no tile was answered.` : "The run failed.";
    else if (facts.tiles.failed) title = `${failed} failed: what lies there is not known.`;
    else if (facts.status === "PARTIAL") [title, text] = ["Features of the model were left out.", facts.rejections[0]?.[0] ?? ""];
    else if (!facts.features && !facts.layer) {
      const leftOut = facts.left_out.map(([label, number]) => `${label[0].toLowerCase()}${label.slice(1)}: ${number}`).join(", ");
      const found = leftOut ? `. All that it found was left out (${leftOut}).` : ` and found nothing in ${asked === 1 ? "it" : "them"}.`;
      [title, text] = ["No detections.", `The model answered for ${plural(asked, "tile")}${found}`];
    }
    if (!title) return;
    element.classList.add(facts.status);
    element.append(make("strong", {}, title), text);
    element.hidden = false;
  }

  listen() {
    TABS.forEach((name, at) => {
      byId(`tab-${name}`).addEventListener("click", () => this.open(name));
      byId(`tab-${name}`).addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const there = TABS.filter((each) => !byId(`tab-${each}`).hidden);
        const next = there[(there.indexOf(TABS[at]) + step + there.length) % there.length];
        this.open(next);
        byId(`tab-${next}`).focus();
      });
    });
    byId("nearer").addEventListener("click", () => this.map.zoomBy(1));
    byId("farther").addEventListener("click", () => this.map.zoomBy(-1));
    byId("whole").addEventListener("click", () => this.map.showWhole());
    byId("map").addEventListener("keydown", (event) => this.press(event));
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.select(-1, -1));
  }

  press(event) {
    const { map } = this;
    const action = {
      ArrowLeft: () => map.pan(-0.15, 0), ArrowRight: () => map.pan(0.15, 0),
      ArrowUp: () => map.pan(0, -0.15), ArrowDown: () => map.pan(0, 0.15),
      "+": () => map.zoomBy(0.5), "=": () => map.zoomBy(0.5), "-": () => map.zoomBy(-0.5), "−": () => map.zoomBy(-0.5),
      0: () => map.showWhole(), n: () => this.step(1), p: () => this.step(-1),
    }[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  }

  /** Shows the next or the previous feature of the table. */
  step(by) {
    const features = this.table?.features ?? [];
    if (!features.length) return;
    const at = features.indexOf(this.selected);
    this.show(features[at < 0 ? (by > 0 ? 0 : features.length - 1) : (at + by + features.length) % features.length]);
  }

  open(name) {
    this.tab = name;
    for (const each of TABS) {
      byId(each).hidden = each !== name;
      byId(`tab-${each}`).setAttribute("aria-selected", `${each === name}`);
      byId(`tab-${each}`).tabIndex = each === name ? 0 : -1;
    }
    if (name === "table") this.table?.select(this.selected);
    this.keepSoon();
  }

  filtered() {
    if (this.selected >= 0 && !this.filter.isShown(this.selected)) this.select(-1, -1);
    this.map.hovered = -1;
    this.redraw();
  }

  redraw() {
    this.layerControl.show();
    this.map.drawSoon();
    this.keepSoon();
  }

  show(feature) {
    this.select(feature, -1);
    this.map.jumpTo(this.drawing.box(feature));
  }

  select(feature, area) {
    [this.selected, this.area] = [feature, area];
    [this.map.selected, this.map.selectedArea] = [feature, area];
    this.table?.select(feature);
    const card = byId("card");
    card.hidden = feature < 0 && area < 0;
    card.replaceChildren();
    if (!card.hidden) {
      const close = make("button", { type: "button", "aria-label": "End the selection", onclick: () => this.select(-1, -1) }, "×");
      card.append(...(feature >= 0 ? this.featureCard(feature) : this.areaCard(area)), close);
    }
    this.map.drawSoon();
    this.keepSoon();
  }

  featureCard(feature) {
    const { filter, drawing } = this, number = filter.classes[feature];
    const [x0, y0, x1, y1] = drawing.box(feature), place = drawing.place(feature);
    const rows = [
      ["Score", filter.scores[feature].toFixed(4)],
      ...(place ? [["Lat, lon", placeText(place, 6)]] : []),
      ["x, y", `${((x0 + x1) / 2).toFixed(1)}, ${((y0 + y1) / 2).toFixed(1)} px`],
      ["Size", `${sized(x1 - x0)} × ${sized(y1 - y0)} px`],
      ["id", drawing.identity(feature)],
    ];
    return [make("h2", {}, make("div", {}, swatch(filter.colours[number]), ` ${facts.classes[number][0]}`)), described(rows)];
  }

  areaCard(area) {
    const { areas, areaStates, areaTiles, areaReasons } = this.drawing.columns;
    const [x, y, width, height] = areas.subarray(4 * area, 4 * area + 4), reason = facts.tileReasons[areaReasons[area]];
    const rows = [...(reason ? [["Reason", reason]] : []), ["x, y", `${x}, ${y} px`], ["Size", `${width} × ${height} px`]];
    const state = facts.states[areaStates[area]];
    const title = { failed: "failed", blank: "without data", outside: "outside the region of interest" }[state];
    return [make("h2", {}, `${plural(areaTiles[area], "tile")} ${title}`), described(rows)];
  }

  /** The address that shows the same again. */
  keepAddress() {
    const { view } = this.map, { filter, layers } = this;
    const words = [];
    if (!this.map.whole) words.push(`view=${view.target[0].toFixed(1)},${view.target[1].toFixed(1)},${view.zoom.toFixed(2)}`);
    if (filter.least !== filter.low) words.push(`score=${+filter.least.toFixed(4)}`);
    const off = ranges(filter.on, 0), on = ranges(filter.on, 1);
    if (off) words.push(on.length < off.length ? `only=${on}` : `without=${off}`);
    for (const name of Object.keys(DEFAULT_LAYERS)) {
      if (layers[name] !== DEFAULT_LAYERS[name]) words.push(`${name}=${Number(layers[name])}`);
    }
    if (this.selected >= 0) words.push(`feature=${this.drawing.identity(this.selected)}`);
    if (this.area >= 0) words.push(`tile=${this.drawing.areaBox(this.area).slice(0, 2)}`);
    if (this.tab !== TABS[0]) words.push(`tab=${this.tab}`);
    this.address = words.length ? `#${words.join("&")}` : "";
    if (location.hash !== this.address) history.replaceState(null, "", this.address || "#");
  }

  goToAddress() {
    const words = new Map(location.hash.slice(1).split("&").map((word) => word.split("=", 2)));
    const { filter, layers } = this;
    const number = (name, otherwise) => (words.has(name) && Number.isFinite(Number(words.get(name))) ? Number(words.get(name)) : otherwise);
    filter.least = Math.min(Math.max(number("score", filter.low), filter.low), filter.high);
    filter.on.fill(words.has("only") ? 0 : 1);
    setRanges(filter.on, words.get("only") ?? "", 1);
    setRanges(filter.on, words.get("without") ?? "", 0);
    for (const [name, value] of Object.entries(DEFAULT_LAYERS)) {
      layers[name] = name === "opacity" ? number(name, value) : Boolean(number(name, value));
    }
    filter.changed();
    const view = (words.get("view") ?? "").split(",").map(Number);
    if (view.length === 3 && view.every(Number.isFinite)) this.map.move(view, view[2]);
    else this.map.showWhole();
    const tab = words.get("tab");
    this.open(TABS.includes(tab) && !byId(`tab-${tab}`).hidden ? tab : TABS[0]);
    const feature = this.drawing.featureOf(words.get("feature") ?? "");
    if (feature >= 0 && filter.isShown(feature)) this.select(feature, -1);
    else this.select(-1, this.drawing.areaFrom(...(words.get("tile") ?? "").split(",").map(Number)));
    if (words.has("view")) return;
    if (this.selected >= 0) this.map.jumpTo(this.drawing.box(this.selected));
    else if (this.area >= 0) this.map.jumpTo(this.drawing.areaBox(this.area));
  }
}

function described(rows) {
  return make("dl", {}, ...rows.flatMap(([label, text]) => [
    make("dt", {}, label), make("dd", label === "id" ? { class: "identity" } : {}, text),
  ]));
}

/** Calls a function once, some milliseconds after the last call. */
function later(work, milliseconds) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds);
  };
}

readColumns().then((columns) => new Page(columns).start()).catch((error) => {
  byId("notice").append(make("strong", {}, "This page cannot be shown."), `${error}. Open it in a browser from 2023 or later.`);
  byId("notice").hidden = false;
});
