"""Open an image, if it is safe to, and find out all there is to know before a pixel is read."""
