"""How each family of detectors says what it found: a module each, with its own words."""
