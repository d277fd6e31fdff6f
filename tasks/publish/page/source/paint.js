// A great many features as one picture: moving it costs no more than moving one of a few, also without a graphics card.

const MAX_PIXELS = 6e6; // of the picture

class Painting {
  /** An empty picture of a rectangle of the image, at pixels of the screen for each of the image. */
  constructor([left, top, right, bottom], scale) {
    const wanted = (right - left) * (bottom - top) * scale * scale;
    this.scale = scale * Math.min(1, Math.sqrt(MAX_PIXELS / wanted));
    this.left = left;
    this.top = top;
    this.width = Math.max(1, Math.ceil((right - left) * this.scale));
    this.height = Math.max(1, Math.ceil((bottom - top) * this.scale));
    this.bounds = [left, top + this.height / this.scale, left + this.width / this.scale, top];
    this.image = new ImageData(this.width, this.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  /** A square of some pixels in a colour from `packed`, around a place in the image. */
  dot(x, y, size, colour) {
    const x0 = Math.round((x - this.left) * this.scale - size / 2), y0 = Math.round((y - this.top) * this.scale - size / 2);
    if (x0 < 0 || y0 < 0 || x0 + size > this.width || y0 + size > this.height) return;
    for (let row = y0; row < y0 + size; row++) this.pixels.fill(colour, row * this.width + x0, row * this.width + x0 + size);
  }

  /** A line of two pixels through places x, y in the image. */
  line(points, colour) {
    for (let at = 2; at < points.length; at += 2) {
      const x = points[at - 2], y = points[at - 1], right = points[at] - x, down = points[at + 1] - y;
      const steps = Math.max(1, Math.ceil(Math.max(Math.abs(right), Math.abs(down)) * this.scale));
      if (steps > this.width + this.height) continue; // far larger than what is seen
      for (let step = 0; step <= steps; step++) this.dot(x + (right * step) / steps, y + (down * step) / steps, 2, colour);
    }
  }
}

/** Red, green and blue as a pixel of a painting: little-endian, as all machines that run browsers. */
const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
