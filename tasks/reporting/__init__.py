"""The status messages and the summary of an image's run."""
