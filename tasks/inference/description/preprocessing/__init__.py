"""Makes the model's input tensor from a tile's pixels: bands, size, values, dimension order."""
