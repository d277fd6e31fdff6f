"""Deployment on Kubernetes: the work pool, its worker, and the manifests of a namespace."""
