"""What Prefect runs: the sensor on the queue, images and regions. Orchestration only."""
