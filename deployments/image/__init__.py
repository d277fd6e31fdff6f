"""The container image: its build, what is removed from it, its health check; see `Dockerfile`."""
