"""The work itself: plain functions and values. Only `tasks.steps` knows Prefect."""
