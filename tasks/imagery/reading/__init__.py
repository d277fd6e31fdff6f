"""Read tiles, fetching and decoding each block once, and detect blank tiles."""
