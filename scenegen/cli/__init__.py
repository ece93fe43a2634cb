"""The entry points: the command line and Prefect's deployments, and what only they need."""
