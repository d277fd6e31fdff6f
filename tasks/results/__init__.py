"""The tables of detections and of tiles (the ledger), and how regions store them."""
