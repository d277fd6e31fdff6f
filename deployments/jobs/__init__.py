"""The commands for jobs that are on a queue or a Prefect server, or have been there.

What runs is read from Prefect; what is known about each image, from its record in the work store.
"""
