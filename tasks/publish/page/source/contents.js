// What this file holds: words in JSON, and numbers as typed arrays.

const facts = JSON.parse(document.getElementById("facts").textContent);
const TYPES = {
  float32: Float32Array, int32: Int32Array, uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array,
};

/** The columns of numbers by name. */
async function readColumns() {
  const text = atob(document.getElementById("columns").textContent);
  const packed = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = await new Response(stream).arrayBuffer();
  return Object.fromEntries(
    Object.entries(facts.columns).map(([name, [type, offset, length]]) => [
      name, new TYPES[type](bytes, offset, length),
    ]),
  );
}

/** An element with attributes and children; text is text, whatever is in it. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const byId = (id) => document.getElementById(id);
const counted = (number) => number.toLocaleString("en");
const plural = (number, one, many = `${one}s`) => `${counted(number)} ${number === 1 ? one : many}`;

/** A square in a colour, which is set by a property: the page's policy forbids style attributes. */
function swatch(colour, kind = "") {
  const square = make("span", { class: `swatch ${kind}`, "aria-hidden": "true" });
  if (colour) square.style.background = colour;
  return square;
}

/** Calls a function once a frame at most. */
function eachFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}
