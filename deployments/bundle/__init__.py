"""A bundle from which Swath is installed where there is no internet."""
