"""Who comes next, and who gets how much: places and calls divided between owners and jobs."""
