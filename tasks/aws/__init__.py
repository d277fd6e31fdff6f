"""AWS: clients for the process's own identity or a role, ECS tasks, Secrets Manager."""
