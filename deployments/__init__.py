"""WHERE IT RUNS: command line, local stack, demonstration, container image, AWS."""
