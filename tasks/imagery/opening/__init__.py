"""Open an image: check that it is safe, and collect its metadata before any pixel is read."""
