// The slider with its histogram, the list of classes, the layers.

const MAX_LISTED = 100; // classes in the list at once
const SVG = "http://www.w3.org/2000/svg";

class ScoreControl {
  constructor(filter) {
    this.filter = filter;
    const { low, high } = filter;
    this.input = byId("score");
    Object.assign(this.input, { min: low, max: high, step: (high - low) / 100, value: filter.least });
    byId("score-low").textContent = low.toFixed(1);
    byId("score-high").textContent = high.toFixed(1);
    this.bars = Array.from({ length: BINS }, (_, at) => {
      const bar = document.createElementNS(SVG, "rect");
      bar.setAttribute("x", at + 0.06);
      bar.setAttribute("width", 0.88);
      return bar;
    });
    byId("histogram").setAttribute("viewBox", `0 0 ${BINS} 100`);
    byId("histogram").append(...this.bars);
    const soon = eachFrame(() => filter.changed());
    this.input.addEventListener("input", () => {
      filter.least = Number(this.input.value);
      soon();
    });
    filter.listeners.push(() => this.show());
  }

  show() {
    const { bins, least, low, high, shown, count } = this.filter;
    const most = Math.max(1, ...bins), width = (high - low) / BINS;
    this.bars.forEach((bar, at) => {
      const height = bins[at] ? Math.max(2, (100 * bins[at]) / most) : 0;
      bar.setAttribute("y", 100 - height);
      bar.setAttribute("height", height);
      bar.setAttribute("class", low + (at + 1) * width <= least + 1e-6 ? "off" : "");
    });
    if (Number(this.input.value) !== least) this.input.value = least;
    byId("score-text").textContent = `≥ ${least.toFixed(2)}`;
    byId("score-count").textContent = `${counted(shown.length)} of ${counted(count)} shown`;
    const text = `Histogram of the scores in the chosen classes: ${plural(shown.length, "detection")} of a score from ${least.toFixed(2)} up`;
    byId("histogram").setAttribute("aria-label", text);
  }
}

class ClassControl {
  constructor(filter) {
    this.filter = filter;
    this.rows = [];
    byId("class-tools").hidden = facts.classes.length < 2;
    byId("class-search").hidden = facts.classes.length <= 8;
    byId("class-search").addEventListener("input", eachFrame(() => this.list()));
    byId("class-all").addEventListener("click", () => this.setAll(1));
    byId("class-none").addEventListener("click", () => this.setAll(0));
    filter.listeners.push(() => this.show());
    this.list();
  }

  /** The numbers of the classes whose name has what is searched. */
  found() {
    const text = byId("class-search").value.trim().toLowerCase();
    const all = facts.classes.map((_, number) => number);
    return text ? all.filter((number) => facts.classes[number][0].toLowerCase().includes(text)) : all;
  }

  setAll(value) {
    for (const number of this.found()) this.filter.on[number] = value;
    this.filter.changed();
  }

  list() {
    const found = this.found();
    this.rows = found.slice(0, MAX_LISTED).map((number) => this.row(number));
    byId("classes").replaceChildren(...this.rows.map((row) => row.element));
    const others = found.length - this.rows.length;
    byId("class-more").hidden = found.length > 0 && !others;
    byId("class-more").textContent = found.length ? `and ${plural(others, "more class", "more classes")}: search to see them` : "No class has that in its name.";
    this.show();
  }

  row(number) {
    const [name] = facts.classes[number];
    const box = make("input", { type: "checkbox", onchange: () => {
      this.filter.on[number] = box.checked ? 1 : 0;
      this.filter.changed();
    } });
    const square = swatch(), count = make("span", { class: "number" });
    const only = make("button", { type: "button", "aria-label": `Only ${name}`, onclick: () => {
      this.filter.on.fill(0);
      this.filter.on[number] = 1;
      this.filter.changed();
    } }, "only");
    const label = make("label", { title: name }, box, square, make("span", { class: "text" }, name));
    const element = make("li", {}, label, ...(facts.classes.length > 1 ? [only] : []), count);
    return { number, box, square, count, element };
  }

  show() {
    const { on, perClass, colours } = this.filter;
    for (const { number, box, square, count } of this.rows) {
      box.checked = on[number] === 1;
      square.style.background = colours[number];
      const shown = on[number] ? perClass[number] : 0, total = facts.classes[number][1];
      count.textContent = shown === total ? counted(total) : `${counted(shown)} of ${counted(total)}`;
    }
    const chosen = on.reduce((sum, each) => sum + each, 0);
    byId("class-count").textContent = chosen === on.length ? counted(chosen) : `${counted(chosen)} of ${counted(on.length)}`;
  }
}

class LayerControl {
  /** Check boxes for what there is to see; `layers` has what is on, and the raster's opacity. */
  constructor(layers, changed) {
    const tiles = facts.states.map((state) => [state, `${state[0].toUpperCase()}${state.slice(1)} tiles`, facts.tiles[state]]);
    const rows = [
      ...(facts.look.url ? [["image", "Image"]] : []),
      ...(facts.layer ? [["raster", "Raster"]] : []),
      ...(facts.features ? [["detections", "Detections"]] : []),
      ...tiles.filter(([, , number]) => number),
    ];
    this.boxes = rows.map(([name, text, number]) => {
      const box = make("input", { type: "checkbox", name, onchange: () => {
        layers[name] = box.checked;
        changed();
      } });
      const square = number ? [swatch(null, name)] : [];
      const count = number ? [make("span", { class: "number" }, counted(number))] : [];
      byId("layers").append(make("li", {}, make("label", {}, box, ...square, text, ...count)));
      return box;
    });
    this.layers = layers;
    byId("legend-block").hidden = !facts.layer;
    byId("opacity").addEventListener("input", () => {
      layers.opacity = Number(byId("opacity").value);
      changed();
    });
    for (const [[red, green, blue], text] of facts.layer?.legend ?? []) {
      byId("legend").append(make("li", {}, swatch(`rgb(${red} ${green} ${blue})`), make("span", { class: "text", title: text }, text)));
    }
    if (facts.layer && !facts.layer.legend.length) byId("legend").append(make("li", { class: "quiet" }, "No pixel has an answer."));
  }

  show() {
    for (const box of this.boxes) box.checked = Boolean(this.layers[box.name]);
    byId("opacity").value = this.layers.opacity;
  }
}
