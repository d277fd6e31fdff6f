"""The demonstration: a generated harbour with known ships, and how well they were found."""
