"""Objects that tile edges cut: which of the views that tiles have of one stays."""
