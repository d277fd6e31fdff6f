"""Objects that tile edges cut: of the tiles' views of such an object, one stays."""
