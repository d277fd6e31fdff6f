"""Records: what is known about each image of a job, where it is kept, and for how long."""
