"""What differs between Linux, macOS and Windows: locks, processes, limits and memory."""
