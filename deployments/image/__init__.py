"""The container image: what builds, strips and probes it; see `Dockerfile`."""
