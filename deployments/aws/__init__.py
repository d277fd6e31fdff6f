"""Deployment on AWS: the CloudFormation template, the work pool on ECS, and its worker."""
