"""The plan of an image: tiles, region of interest, division into regions, and the estimate."""
