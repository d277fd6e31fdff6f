"""Opens an image: checks that it is safe, and collects its metadata before any pixel is read."""
