"""Where on Earth an image's pixels lie: one interface, and a module for each kind of it."""
