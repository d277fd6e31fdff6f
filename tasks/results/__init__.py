"""Tables of detections, the ledger of tiles, and what regions store."""
