"""Objects that are whole or absent, in S3 or on disk; the folders that an operator allows."""
