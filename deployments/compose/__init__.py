"""Deployment on one machine with containers: the compose file, and what its `setup` runs."""
