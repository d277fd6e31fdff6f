"""NMS, soft NMS, non-maximum merging (NMM) and weighted boxes fusion (WBF)."""
