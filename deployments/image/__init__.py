"""The container image of the `Dockerfile`: its build, its clean-up, its health check."""
