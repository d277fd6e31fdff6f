// Which features are shown: those of a least score, in some classes.

const BINS = 50;

class Filter {
  /** All features; they are ordered by their score, the best first. */
  constructor(columns) {
    this.scores = columns.scores;
    this.classes = columns.classes;
    this.count = this.scores.length;
    this.on = new Uint8Array(facts.classes.length).fill(1);
    this.low = Math.min(0, this.count ? this.scores[this.count - 1] : 0);
    this.high = Math.max(1, this.count ? this.scores[0] : 1);
    this.least = this.low;
    this.listeners = [];
    this.apply();
  }

  /** Works out what is shown: `shown`, and the numbers for the class list and the histogram. */
  apply() {
    const { scores, classes, on, count, low, high } = this;
    const least = Math.fround(this.least);
    const shown = new Uint32Array(count);
    let number = 0;
    this.perClass = new Uint32Array(on.length);
    this.bins = new Uint32Array(BINS);
    const width = (high - low) / BINS;
    for (let at = 0; at < count; at++) {
      const own = classes[at], score = scores[at];
      if (on[own]) this.bins[Math.min(BINS - 1, Math.max(0, Math.floor((score - low) / width + 1e-6)))]++;
      if (score < least) continue;
      this.perClass[own]++;
      if (on[own]) shown[number++] = at;
    }
    this.shown = shown.subarray(0, number);
    this.colours = this.ownColours();
  }

  /** The colour of each class: that of the raster, or the most frequent ones of those shown have their own. */
  ownColours() {
    const ofRaster = new Map(Object.entries(facts.layer?.classes ?? {}));
    if (ofRaster.size) {
      return facts.classes.map(([name]) => (ofRaster.has(name) ? hex(ofRaster.get(name)) : facts.others));
    }
    const colours = new Array(this.on.length).fill(facts.others);
    const all = this.on.length <= facts.colours.length;
    let next = 0;
    for (let own = 0; own < this.on.length && next < facts.colours.length; own++) {
      if (all || this.on[own]) colours[own] = facts.colours[next++];
    }
    return colours;
  }

  isShown(feature) {
    return this.scores[feature] >= Math.fround(this.least) && this.on[this.classes[feature]] === 1;
  }

  changed() {
    this.apply();
    for (const listener of this.listeners) listener();
  }
}

const hex = (parts) => `#${parts.map((part) => part.toString(16).padStart(2, "0")).join("")}`;

/** Numbers as ranges in words: 0-3,7. */
function ranges(flags, value) {
  const found = [];
  for (let at = 0; at < flags.length; at++) {
    if (flags[at] !== value) continue;
    const start = at;
    while (at + 1 < flags.length && flags[at + 1] === value) at++;
    found.push(start === at ? `${at}` : `${start}-${at}`);
  }
  return found.join(",");
}

function setRanges(flags, text, value) {
  for (const range of text.split(",").filter(Boolean)) {
    const [start, end = start] = range.split("-").map(Number);
    if (start >= 0 && end >= start) flags.fill(value, start, end + 1);
  }
}
