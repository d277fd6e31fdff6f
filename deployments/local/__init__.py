"""The local stack: AWS, Prefect, and a worker as supervised processes on loopback."""
