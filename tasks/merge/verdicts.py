"""What becomes of a detection: it goes, it stays, or that depends on what is not known here."""

DEAD, KEPT, UNKNOWN = 0, 1, 2
