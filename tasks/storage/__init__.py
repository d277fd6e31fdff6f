"""Objects in S3 or on disk, written atomically; the local folders that an operator allows."""
