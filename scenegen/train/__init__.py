"""Training of the embedded networks, and its data, rendered from a folder of GLB meshes by the project's own ray caster."""
