"""Numbers of this implementation against numbers of the reference, stored as safetensors files."""
