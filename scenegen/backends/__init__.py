"""The back-ends that are part of scenegen, each as its record. Entry points in pyproject.toml name them."""
