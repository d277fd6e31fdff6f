"""Tiles, regions, cells and the region of interest, in pixels of the full image."""
