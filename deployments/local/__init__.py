"""The local stack: AWS emulator, Prefect server and worker as supervised processes on loopback."""
