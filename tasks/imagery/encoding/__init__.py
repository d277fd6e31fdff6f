"""Encode tiles in the formats that models take, with their place on the Earth."""
