"""Training of the embedded networks, and the data for it: from a folder of GLB meshes, by the project's own ray caster."""
