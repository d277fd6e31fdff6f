"""Reads tiles, with each block fetched and decoded only once, and detects blank tiles."""
