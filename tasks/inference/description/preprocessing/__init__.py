"""From a tile's pixels to the model's input tensor: bands, size, values, order of dimensions."""
