"""What an image will take, and how it is cut into regions for the workers there are."""
