"""Objects that tile edges cut: which one of the tiles' views of an object stays."""
