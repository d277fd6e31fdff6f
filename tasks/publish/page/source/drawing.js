// What is drawn of the features and tiles in view: outlines of those large enough to see, dots of the others.

const MIN_OUTLINE = 5; // pixels of the screen
const MAX_OUTLINES = 8000; // those with the best scores
const MAX_DRAWN = 2000; // features that are drawn one by one; more are painted as a picture
const MAX_LARGE = 20000; // dots of a painting that are larger
const MAX_CASED = 1200; // outlines that have a dark line below them
const MAX_AREAS = 4000; // of tiles that are drawn one by one; more are a picture
const STATE_COLOURS = [[255, 45, 45, 70], [141, 153, 166, 110], [10, 12, 14, 150]]; // as facts.states

const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

class Drawing {
  constructor(columns, filter) {
    Object.assign(this, { columns, filter });
    // where the lines of a feature with an outline of its own begin, and how many they are
    const count = filter.count;
    this.firstLine = new Int32Array(count).fill(-1);
    this.lineCount = new Uint32Array(count);
    columns.owners.forEach((feature, line) => {
      if (this.firstLine[feature] < 0) this.firstLine[feature] = line;
      this.lineCount[feature]++;
    });
    this.areas = facts.states.map((_, state) => {
      const found = [];
      columns.areaStates.forEach((own, at) => own === state && found.push(at));
      return found;
    });
  }

  box(feature) {
    return this.columns.boxes.subarray(4 * feature, 4 * feature + 4);
  }

  centre(feature) {
    const [x0, y0, x1, y1] = this.box(feature);
    return [(x0 + x1) / 2, (y0 + y1) / 2];
  }

  /** The lines of a feature as arrays of x, y in pixels of the image. */
  lines(feature) {
    const { starts, vertices } = this.columns;
    if (this.firstLine[feature] < 0) {
      const [x0, y0, x1, y1] = this.box(feature);
      return [[x0, y0, x1, y0, x1, y1, x0, y1, x0, y0]];
    }
    const first = this.firstLine[feature];
    return Array.from({ length: this.lineCount[feature] }, (_, at) =>
      vertices.subarray(2 * starts[first + at], 2 * starts[first + at + 1]));
  }

  /** Dots and lines of the features in a rectangle of the image, at pixels of the screen for each of the image. */
  features(bounds, scale) {
    const [left, top, right, bottom] = bounds;
    const { boxes } = this.columns;
    const colours = this.filter.colours.map((colour) => [...rgb(colour), 255]);
    const { shown } = this.filter;
    // from the end, so that the best lie on top
    const outlined = new Uint32Array(MAX_OUTLINES), dots = new Uint32Array(shown.length);
    let firstOutlined = outlined.length, firstDot = dots.length;
    for (let at = 0; at < shown.length; at++) {
      const feature = shown[at], own = 4 * feature;
      const x0 = boxes[own], y0 = boxes[own + 1], x1 = boxes[own + 2], y1 = boxes[own + 3];
      if (x1 < left || x0 > right || y1 < top || y0 > bottom) continue;
      const large = Math.max(x1 - x0, y1 - y0) * scale >= MIN_OUTLINE;
      if (large && firstOutlined > 0) outlined[--firstOutlined] = feature;
      else dots[--firstDot] = feature;
    }
    return this.drawn(dots.subarray(firstDot), outlined.subarray(firstOutlined), colours, bounds, scale);
  }

  drawn(dots, outlined, colours, bounds, scale) {
    const { classes } = this.columns;
    if (dots.length + outlined.length > MAX_DRAWN) return { painting: this.painted(dots, outlined, colours, bounds, scale) };
    const points = {
      count: dots.length,
      positions: new Float32Array(2 * dots.length),
      colours: new Uint8Array(4 * dots.length),
      sizes: new Float32Array(dots.length).fill(7),
    };
    dots.forEach((feature, at) => {
      points.positions.set(this.centre(feature), 2 * at);
      points.colours.set(colours[classes[feature]], 4 * at);
    });
    const triangles = new Triangles();
    if (outlined.length <= MAX_CASED) this.outline(triangles, outlined, 4, () => [0, 0, 0, 150]);
    this.outline(triangles, outlined, 2, (feature) => colours[classes[feature]]);
    return { points, triangles: triangles.marks() };
  }

  painted(dots, outlined, colours, bounds, scale) {
    const painting = new Painting(bounds, scale), { boxes, classes } = this.columns;
    const own = colours.map(packed), size = dots.length > MAX_LARGE ? 3 : 4;
    for (const feature of dots) {
      const at = 4 * feature; // as `centre`, without an array for each
      painting.dot((boxes[at] + boxes[at + 2]) / 2, (boxes[at + 1] + boxes[at + 3]) / 2, size, own[classes[feature]]);
    }
    for (const feature of outlined) {
      for (const line of this.lines(feature)) painting.line(line, own[classes[feature]]);
    }
    return painting;
  }

  outline(triangles, features, width, colour) {
    for (const feature of features) {
      for (const line of this.lines(feature)) triangles.line(line, width, colour(feature));
    }
  }

  /** The areas of tiles in a state that a rectangle shows, or null if they are too many. */
  tiles(state, [left, top, right, bottom]) {
    const { areas, areaTiles } = this.columns;
    const found = [];
    let tiles = 0;
    for (const at of this.areas[state]) {
      const [x, y, width, height] = areas.subarray(4 * at, 4 * at + 4);
      if (x > right || y > bottom || x + width < left || y + height < top) continue;
      if (found.length === MAX_AREAS) return null;
      tiles += areaTiles[at];
      found.push([x, y, x + width, y + height, areaTiles[at]]);
    }
    const triangles = new Triangles(), colour = STATE_COLOURS[state], failed = facts.states[state] === "failed";
    for (const [x0, y0, x1, y1] of found) triangles.rectangle(x0, y0, x1, y1, colour);
    for (const [x0, y0, x1, y1, own] of found) {
      const line = failed ? [255, 45, 45, 255] : [...colour.slice(0, 3).map((part) => part + 40), 150];
      triangles.line([x0, y0, x1, y0, x1, y1, x0, y1, x0, y0], 1.5, line);
      // failed tiles are crossed out: they differ by more than their colour
      const crosses = failed ? (tiles <= MAX_AREAS ? own : 1) : 0, wide = (x1 - x0) / crosses;
      for (let at = 0; at < crosses; at++) {
        const left = x0 + at * wide, right = left + wide;
        triangles.line([left, y0, right, y1], 1, line).line([right, y0, left, y1], 1, line);
      }
    }
    return triangles.marks();
  }

  /** A picture of the areas in a state, for when they are many. */
  tilePicture(state) {
    this.pictures ??= [];
    if (this.pictures[state]) return this.pictures[state];
    const factor = Math.min(1, 1024 / Math.max(facts.width, facts.height));
    const canvas = make("canvas");
    canvas.width = Math.max(1, Math.ceil(facts.width * factor));
    canvas.height = Math.max(1, Math.ceil(facts.height * factor));
    const context = canvas.getContext("2d");
    const [red, green, blue] = STATE_COLOURS[state];
    context.fillStyle = `rgb(${red} ${green} ${blue})`;
    for (const at of this.areas[state]) {
      const [x, y, width, height] = this.columns.areas.subarray(4 * at, 4 * at + 4);
      context.fillRect(x * factor, y * factor, Math.max(1, width * factor), Math.max(1, height * factor));
    }
    return (this.pictures[state] = canvas);
  }

  /** The smallest feature shown at a place, within some pixels of the image; or -1. */
  featureAt([x, y], within) {
    const { boxes } = this.columns;
    let best = -1, least = Infinity;
    for (const feature of this.filter.shown) {
      const own = 4 * feature;
      const x0 = boxes[own], y0 = boxes[own + 1], x1 = boxes[own + 2], y1 = boxes[own + 3];
      if (x < x0 - within || x > x1 + within || y < y0 - within || y > y1 + within) continue;
      const outside = Math.max(x0 - x, x - x1, y0 - y, y - y1, 0);
      const measure = Math.max(x1 - x0, y1 - y0) + 4 * outside;
      if (measure < least) [best, least] = [feature, measure];
    }
    return best;
  }

  /** The area of tiles at a place in one of some states; or -1. */
  areaAt([x, y], states) {
    for (const state of states) {
      for (const at of this.areas[state]) {
        const [x0, y0, width, height] = this.columns.areas.subarray(4 * at, 4 * at + 4);
        if (x >= x0 && y >= y0 && x < x0 + width && y < y0 + height) return at;
      }
    }
    return -1;
  }

  /** The left, top, right and bottom of an area of tiles. */
  areaBox(area) {
    const [x, y, width, height] = this.columns.areas.subarray(4 * area, 4 * area + 4);
    return [x, y, x + width, y + height];
  }

  /** The area of tiles whose left upper corner is a pixel of the image; or -1. */
  areaFrom(x, y) {
    const { areas, areaStates } = this.columns;
    return areaStates.findIndex((_, area) => areas[4 * area] === x && areas[4 * area + 1] === y);
  }

  identity(feature) {
    const bytes = this.columns.ids.subarray(16 * feature, 16 * feature + 16);
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  /** The feature with an identity, or -1. */
  featureOf(identity) {
    if (!/^[0-9a-f]{32}$/.test(identity)) return -1;
    const wanted = identity.match(/../g).map((digits) => parseInt(digits, 16));
    const { ids } = this.columns;
    for (let feature = 0; feature < this.filter.count; feature++) {
      let same = 0;
      while (same < 16 && ids[16 * feature + same] === wanted[same]) same++;
      if (same === 16) return feature;
    }
    return -1;
  }

  /** Longitude and latitude of a feature in degrees, or null. */
  place(feature) {
    const [longitude, latitude] = this.columns.places.subarray(2 * feature, 2 * feature + 2);
    return longitude === -(2 ** 31) ? null : [longitude / 1e7, latitude / 1e7];
  }
}
