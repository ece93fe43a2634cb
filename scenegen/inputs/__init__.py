"""The photos of a command or a batch: which there are, with which masks and depth maps, and under which names."""
