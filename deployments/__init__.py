"""Where Swath runs: command line, local stack, demonstration, container image, AWS."""
