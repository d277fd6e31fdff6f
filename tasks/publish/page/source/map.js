// The map: the image in its own pixels, and the layers over it.

const PADDING = 0.5; // of the view, in which features are drawn beyond it
const MAX_ZOOM = 6; // 64 pixels of the screen for one of the image
const NEAREST = { minFilter: "nearest", magFilter: "nearest" };

class ImageMap {
  /** A map in #map. `layers` says what is on; the listeners are told of what the user does. */
  constructor(drawing, filter, layers, listeners) {
    Object.assign(this, { drawing, filter, layers, listeners, selected: -1, selectedArea: -1, hovered: -1 });
    this.element = byId("map");
    this.bounds = [0, facts.height, facts.width, 0];
    this.drawSoon = eachFrame(() => this.draw());
    this.hoverSoon = eachFrame(() => this.hover());
    this.view = this.wholeView();
    this.whole = true;
  }

  /** Begins to draw, or says why that is not possible. */
  async start() {
    const load = async (url) => {
      if (!url) return null;
      const image = new Image();
      image.src = url;
      await image.decode();
      return image;
    };
    [this.look, this.raster] = await Promise.all([load(facts.look.url), load(facts.layer?.url)]);
    const webgl = document.createElement("canvas").getContext("webgl2");
    if (!webgl) {
      if (this.look) this.element.append(make("img", { class: "still", src: facts.look.url, alt: "The image" }));
      byId("picture-note").textContent =
        "This browser has no WebGL 2, so that nothing is drawn over the image. The table and the numbers are complete.";
      byId("picture-note").hidden = false;
      return;
    }
    this.deck = new deckgl.Deck({
      parent: this.element,
      views: new deckgl.OrthographicView({ id: "image", flipY: true }),
      controller: { keyboard: false, inertia: 180, scrollZoom: { speed: 0.008, smooth: false } },
      viewState: this.view,
      layers: [],
      // a processor that draws in place of a graphics card is slower by as many samples
      deviceProps: { type: "webgl", webgl: { antialias: !/swiftshader|llvmpipe|software/i.test(rendererOf(webgl)) } },
      onViewStateChange: ({ viewState }) => this.move(viewState.target, [viewState.zoom].flat()[0]),
      onClick: ({ x, y }) => this.click(x, y),
      getCursor: ({ isDragging }) => (isDragging ? "grabbing" : this.hovered < 0 ? "grab" : "pointer"),
    });
    this.element.addEventListener("pointermove", (event) => {
      this.pointer = event.pointerType === "mouse" && !event.buttons ? [event.offsetX, event.offsetY] : null;
      this.hoverSoon();
    });
    this.element.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.hoverSoon();
    });
    new ResizeObserver(() => (this.whole ? this.showWhole() : this.move(this.view.target, this.view.zoom)))
      .observe(this.element);
    this.drawSoon();
  }

  get size() {
    return [Math.max(1, this.element.clientWidth), Math.max(1, this.element.clientHeight)];
  }

  get scale() {
    return 2 ** this.view.zoom;
  }

  wholeView() {
    const [width, height] = this.size;
    const zoom = Math.log2(0.98 * Math.min(width / facts.width, height / facts.height));
    return { target: [facts.width / 2, facts.height / 2, 0], zoom: Math.min(zoom, MAX_ZOOM) };
  }

  showWhole() {
    const { target, zoom } = this.wholeView();
    this.move(target, zoom);
    this.whole = true;
  }

  move([x, y], zoom) {
    const least = this.wholeView().zoom - 1;
    this.whole = false;
    const target = [Math.min(Math.max(x, 0), facts.width), Math.min(Math.max(y, 0), facts.height), 0];
    this.view = { target, zoom: Math.min(Math.max(zoom, least), MAX_ZOOM) };
    this.drawSoon();
    this.listeners.moved();
  }

  zoomBy(steps) {
    this.move(this.view.target, this.view.zoom + steps);
  }

  pan(x, y) {
    const [width, height] = this.size, [left, top] = this.view.target;
    this.move([left + (x * width) / this.scale, top + (y * height) / this.scale], this.view.zoom);
  }

  /** Shows a rectangle of the image in the middle of what the card leaves free, large enough to see it. */
  jumpTo([x0, y0, x1, y1]) {
    const fitting = Math.log2((0.2 * Math.min(...this.size)) / Math.max(x1 - x0, y1 - y0, 1));
    const zoom = Math.max(this.view.zoom, Math.min(fitting, 2));
    const card = byId("card").offsetHeight, [, height] = this.size;
    const covered = card > height / 3 ? card : 0; // on a phone, the card would lie on it
    this.move([(x0 + x1) / 2, (y0 + y1) / 2 + covered / 2 / 2 ** zoom], zoom);
  }

  /** The place in the image of a pixel of the map. */
  place(x, y) {
    const [width, height] = this.size, [left, top] = this.view.target;
    return [left + (x - width / 2) / this.scale, top + (y - height / 2) / this.scale];
  }

  /** The rectangle of the image in view: left, top, right, bottom; widened by a share of it. */
  rectangle(widened = 0) {
    const [width, height] = this.size;
    const [left, top] = this.place(-widened * width, -widened * height);
    return [left, top, ...this.place(width + widened * width, height + widened * height)];
  }

  click(x, y) {
    const place = this.place(x, y);
    const feature = this.layers.detections ? this.drawing.featureAt(place, 6 / this.scale) : -1;
    const states = facts.states.flatMap((state, number) => (this.layers[state] ? [number] : []));
    this.listeners.clicked(feature, feature < 0 ? this.drawing.areaAt(place, states) : -1);
  }

  hover() {
    const found = this.pointer && this.layers.detections;
    this.hovered = found ? this.drawing.featureAt(this.place(...this.pointer), 3 / this.scale) : -1;
    const hint = byId("hint");
    hint.hidden = this.hovered < 0;
    if (!hint.hidden) {
      const [name] = facts.classes[this.filter.classes[this.hovered]];
      hint.textContent = `${name} ${this.filter.scores[this.hovered].toFixed(2)}`;
      hint.style.left = `${Math.min(this.pointer[0] + 14, this.size[0] - 270)}px`;
      hint.style.top = `${this.pointer[1] + 14}px`;
    }
    if (this.drawnHover !== this.hovered) this.drawSoon();
  }

  /** The features and tiles in view are worked out again only where those drawn are not enough. */
  prepare() {
    const [left, top, right, bottom] = this.rectangle();
    const own = this.prepared;
    const [l, t, r, b] = own?.rectangle ?? [];
    const enough = own && own.filtered === this.filter.shown && Math.abs(own.zoom - this.view.zoom) < 0.2
      && l <= left && t <= top && r >= right && b >= bottom;
    if (enough) return own;
    const rectangle = this.rectangle(PADDING);
    this.prepared = {
      rectangle,
      filtered: this.filter.shown,
      zoom: this.view.zoom,
      features: this.drawing.features(rectangle, this.scale),
      tiles: facts.states.map((_, state) => this.drawing.tiles(state, rectangle)),
    };
    return this.prepared;
  }

  draw() {
    if (!this.deck) return;
    const { features, tiles } = this.prepare();
    this.drawnHover = this.hovered;
    this.deck.setProps({
      viewState: this.view,
      layers: [
        this.bitmap("look", this.look, this.layers.image, {}),
        this.bitmap("raster", this.raster, this.layers.raster, { opacity: this.layers.opacity, textureParameters: NEAREST }),
        ...[2, 1, 0].map((state) => this.tileLayer(state, tiles[state])),
        ...(this.layers.detections ? this.featureLayers(features) : []),
        this.chosen(),
      ],
    });
    this.drawScale();
  }

  bitmap(id, image, visible, options) {
    return image && new deckgl.BitmapLayer({ id, image, visible: Boolean(visible), bounds: this.bounds, ...options });
  }

  tileLayer(state, marks) {
    const id = facts.states[state];
    if (!this.layers[id]) return null;
    if (marks) return new Marks({ id, kind: "triangles", marks });
    const look = { opacity: STATE_COLOURS[state][3] / 255, textureParameters: NEAREST };
    return this.bitmap(`${id}-picture`, this.drawing.tilePicture(state), true, look);
  }

  featureLayers({ painting, points, triangles }) {
    if (painting) {
      const { image, bounds } = painting;
      return [new deckgl.BitmapLayer({ id: "painting", image, bounds, textureParameters: NEAREST })];
    }
    return [
      new Marks({ id: "dots", kind: "points", marks: points }),
      new Marks({ id: "outlines", kind: "triangles", marks: triangles }),
    ];
  }

  /** What is pointed at and what is selected. */
  chosen() {
    const triangles = new Triangles(), white = [255, 255, 255, 255], black = [0, 0, 0, 200];
    const { drawing, hovered, selected, selectedArea } = this;
    if (hovered >= 0 && hovered !== selected) {
      for (const line of drawing.lines(hovered)) triangles.line(line, 3, white);
    }
    let frame = [];
    if (selectedArea >= 0) {
      const [x0, y0, x1, y1] = drawing.areaBox(selectedArea);
      frame = [[x0, y0, x1, y0, x1, y1, x0, y1, x0, y0]];
    }
    if (selected >= 0) {
      for (const line of drawing.lines(selected)) triangles.line(line, 3, white);
      const [x0, y0, x1, y1] = drawing.box(selected), around = 8 / this.scale;
      const [l, t, r, b] = [x0 - around, y0 - around, x1 + around, y1 + around];
      const h = Math.min(r - l, b - t) / 4; // corners around it, so that it stays in sight
      frame = [
        [l, t + h, l, t, l + h, t], [r - h, t, r, t, r, t + h],
        [r, b - h, r, b, r - h, b], [l + h, b, l, b, l, b - h],
      ];
    }
    for (const line of frame) triangles.line(line, 6, black);
    for (const line of frame) triangles.line(line, 3, white);
    return new Marks({ id: "chosen", kind: "triangles", marks: triangles.marks() });
  }

  drawScale() {
    const metres = this.pixelSize();
    const scale = this.scale / (metres ?? 1), step = 10 ** Math.floor(Math.log10(120 / scale));
    const round = [5, 2, 1].map((times) => times * step).find((each) => each * scale <= 120) ?? step;
    const length = metres ? round : Math.max(1, round);
    const [text, bar] = byId("scale").children;
    text.textContent = metres ? lengthText(length) : `${counted(length)} px`;
    bar.style.width = `${Math.round(length * scale)}px`;
  }

  /** Metres of a pixel of the image on the ground in the middle of the view, or null. */
  pixelSize() {
    const rows = facts.pixelSizes, [x, y] = this.view.target;
    const part = (place, whole, number) => Math.min(number - 1, Math.floor((place / whole) * number));
    const row = rows[part(y, facts.height, rows.length)];
    return row?.[part(x, facts.width, row.length)] ?? null;
  }
}

/** A length of one digit in metres as text. */
function lengthText(metres) {
  const [unit, size] = metres >= 1000 ? ["km", 1000] : metres >= 1 ? ["m", 1] : ["cm", 0.01];
  return `${counted(+(metres / size).toPrecision(1))} ${unit}`;
}

/** What draws for a context of WebGL. */
function rendererOf(webgl) {
  const names = webgl.getExtension("WEBGL_debug_renderer_info");
  return String(webgl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : webgl.RENDERER));
}
