"""Encodes tiles in the formats that models accept, with their georeference."""
