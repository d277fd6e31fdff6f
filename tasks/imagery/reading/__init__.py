"""Read tiles: each block fetched and decoded once, and blank tiles found."""
