// A great many features as one picture: moving it costs no more than moving one of a few, also without a graphics card.

const MAX_PIXELS = 6e6; // of the picture

class Painting {
  static memory = new Uint32Array(0); // the next picture is painted where the last one was

  /** An empty picture of a rectangle of the image, at pixels of the screen for each of the image. */
  constructor([left, top, right, bottom], scale) {
    const wanted = (right - left) * (bottom - top) * scale * scale;
    this.scale = scale * Math.min(1, Math.sqrt(MAX_PIXELS / wanted));
    this.left = left;
    this.top = top;
    this.width = Math.max(1, Math.ceil((right - left) * this.scale));
    this.height = Math.max(1, Math.ceil((bottom - top) * this.scale));
    this.bounds = [left, top + this.height / this.scale, left + this.width / this.scale, top];
    const count = this.width * this.height;
    if (Painting.memory.length < count) Painting.memory = new Uint32Array(count);
    this.pixels = Painting.memory.subarray(0, count).fill(0);
    this.image = new ImageData(new Uint8ClampedArray(this.pixels.buffer, 0, 4 * count), this.width, this.height);
  }

  /** A rectangle of pixels of the picture, as far as it is inside, in a colour from `packed`. */
  block(x, y, width, height, colour) {
    const { pixels } = this, left = Math.max(x, 0), length = Math.min(x + width, this.width) - left;
    const bottom = Math.min(y + height, this.height);
    for (let row = Math.max(y, 0); row < bottom; row++) {
      const first = row * this.width + left;
      // a call of `fill` takes longer than to set a few pixels
      if (length > 32) pixels.fill(colour, first, first + length);
      else for (let at = first; at < first + length; at++) pixels[at] = colour;
    }
  }

  /** A square of some pixels in a colour from `packed`, around a place in the image. */
  dot(x, y, size, colour) {
    this.block(this.column(x, size), this.row(y, size), size, size, colour);
  }

  /** The first column of some pixels around a place in the image. */
  column(x, size) {
    return Math.round((x - this.left) * this.scale - size / 2);
  }

  /** The first row of some pixels around a place in the image. */
  row(y, size) {
    return Math.round((y - this.top) * this.scale - size / 2);
  }

  /** A line of two pixels through places x, y in the image. */
  line(points, colour) {
    for (let at = 2; at < points.length; at += 2) {
      const x0 = this.column(points[at - 2], 2), y0 = this.row(points[at - 1], 2);
      const x1 = this.column(points[at], 2), y1 = this.row(points[at + 1], 2);
      const right = x1 - x0, down = y1 - y0, steps = Math.max(Math.abs(right), Math.abs(down));
      if (!right || !down) {
        this.block(Math.min(x0, x1), Math.min(y0, y1), Math.abs(right) + 2, Math.abs(down) + 2, colour);
        continue;
      }
      if (steps > this.width + this.height) continue; // far larger than what is seen
      for (let step = 0; step <= steps; step++) {
        this.block(x0 + Math.round((right * step) / steps), y0 + Math.round((down * step) / steps), 2, 2, colour);
      }
    }
  }
}

/** Red, green and blue as a pixel of a painting: little-endian, as all machines that run browsers. */
const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
