"""On AWS: the template of the infrastructure, the work pool on ECS, and its worker."""
