"""`swath demo`: the whole system on a generated harbour, with the precision and recall of ships."""
