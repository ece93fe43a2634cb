"""The ways in: the command line, the deployments of Prefect, and what only they need."""
