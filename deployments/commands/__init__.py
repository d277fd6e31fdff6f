"""Groups of commands of `swath`, which `deployments.cli` puts together."""
