// Points and triangles as layers of deck.gl. Its own layers draw an instance for each mark, which a processor
// without a graphics card does one by one: 100,000 take seconds. Here one call draws all.

const SHADERS = {
  points: {
    vs: `#version 300 es
      in vec2 positions; in vec4 colours; in float sizes;
      out vec4 colour; out float size;
      void main() {
        gl_Position = project_position_to_clipspace(vec3(positions, 0.0), vec3(0.0), vec3(0.0));
        size = sizes * project.devicePixelRatio;
        gl_PointSize = size;
        colour = colours;
      }`,
    fs: `#version 300 es
      precision highp float;
      in vec4 colour; in float size;
      out vec4 fragColor;
      void main() {
        float away = length(gl_PointCoord - 0.5) * size; // pixels from the middle
        if (size > 5.0 && away > size / 2.0) discard;
        fragColor = size > 5.0 && away > size / 2.0 - 1.2 ? vec4(0.0, 0.0, 0.0, 0.8) : colour;
      }`,
    layout: [
      { name: "positions", format: "float32x2" }, { name: "colours", format: "unorm8x4" }, { name: "sizes", format: "float32" },
    ],
    topology: "point-list",
  },
  triangles: {
    vs: `#version 300 es
      in vec2 positions; in vec2 offsets; in vec4 colours;
      out vec4 colour;
      void main() {
        gl_Position = project_position_to_clipspace(vec3(positions, 0.0), vec3(0.0), vec3(0.0));
        gl_Position.xy += project_pixel_size_to_clipspace(offsets) * gl_Position.w;
        colour = colours;
      }`,
    fs: `#version 300 es
      precision highp float;
      in vec4 colour;
      out vec4 fragColor;
      void main() { fragColor = colour; }`,
    layout: [
      { name: "positions", format: "float32x2" }, { name: "offsets", format: "float32x2" }, { name: "colours", format: "unorm8x4" },
    ],
    topology: "triangle-list",
  },
};
const BLENDED = {
  depthCompare: "always", depthWriteEnabled: false, blend: true,
  blendColorOperation: "add", blendColorSrcFactor: "src-alpha", blendColorDstFactor: "one-minus-src-alpha",
  blendAlphaOperation: "add", blendAlphaSrcFactor: "one", blendAlphaDstFactor: "one-minus-src-alpha",
};

/** A layer of `kind` points or triangles, drawn of its `marks`: their `count`, and arrays by name. */
class Marks extends deckgl.Layer {
  initializeState() {
    this.getAttributeManager().remove(["instancePickingColors"]);
  }

  updateState({ props, oldProps }) {
    if (props.marks === oldProps.marks) return;
    this.release();
    const { kind, marks, id } = props, { vs, fs, layout, topology } = SHADERS[kind];
    if (!marks.count) return;
    const { device } = this.context;
    const buffers = Object.fromEntries(layout.map(({ name }) => [name, device.createBuffer({ data: marks[name] })]));
    const model = new deckgl.Model(device, {
      ...this.getShaders({ vs, fs, modules: [deckgl.project32] }),
      id, topology, bufferLayout: layout, attributes: buffers, vertexCount: marks.count, parameters: BLENDED,
    });
    this.setState({ model, buffers });
  }

  draw() {
    this.state.model?.draw(this.context.renderPass);
  }

  release() {
    this.state.model?.destroy();
    Object.values(this.state.buffers ?? {}).forEach((buffer) => buffer.destroy());
    this.setState({ model: null, buffers: null });
  }

  finalizeState(context) {
    this.release();
    super.finalizeState(context);
  }
}
Marks.layerName = "Marks";
Marks.defaultProps = { kind: "points", marks: { type: "object", value: { count: 0 } } };

/** Collects triangles. Lengths in pixels of the screen do not change with the zoom. */
class Triangles {
  constructor() {
    this.parts = [];
  }

  /** A line through points x, y of the image, of a width in pixels of the screen. */
  line(points, width, colour) {
    const half = width / 2;
    for (let at = 2; at < points.length; at += 2) {
      const x0 = points[at - 2], y0 = points[at - 1], x1 = points[at], y1 = points[at + 1];
      const length = Math.hypot(x1 - x0, y1 - y0) || 1;
      const along = [((x1 - x0) / length) * half, ((y0 - y1) / length) * half], across = [-along[1], along[0]];
      // corners of the line, each end lengthened so that bends have no gaps; y goes up in offsets
      this.parts.push([
        [x0, y0, -along[0] + across[0], -along[1] + across[1]], [x0, y0, -along[0] - across[0], -along[1] - across[1]],
        [x1, y1, along[0] + across[0], along[1] + across[1]], [x1, y1, along[0] - across[0], along[1] - across[1]],
        colour,
      ]);
    }
    return this;
  }

  rectangle(x0, y0, x1, y1, colour) {
    this.parts.push([[x0, y0, 0, 0], [x0, y1, 0, 0], [x1, y0, 0, 0], [x1, y1, 0, 0], colour]);
    return this;
  }

  /** What a layer of triangles draws. */
  marks() {
    const count = 6 * this.parts.length;
    const positions = new Float32Array(2 * count), offsets = new Float32Array(2 * count), colours = new Uint8Array(4 * count);
    this.parts.forEach((part, at) => {
      [0, 1, 2, 2, 1, 3].forEach((corner, place) => {
        const vertex = 6 * at + place, [x, y, right, up] = part[corner];
        positions[2 * vertex] = x;
        positions[2 * vertex + 1] = y;
        offsets[2 * vertex] = right;
        offsets[2 * vertex + 1] = up;
        colours.set(part[4], 4 * vertex);
      });
    });
    return { count, positions, offsets, colours };
  }
}
