"""Status messages and the summary of an image."""
