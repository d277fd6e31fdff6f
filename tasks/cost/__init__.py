"""Cost: what a job uses, what that costs, and the limit that a request sets to it."""
