"""`swath demo`: the whole system on a generated harbour, and how many of its ships were found."""
