"""WHAT RUNS: orchestration only, thin enough to read aloud."""
