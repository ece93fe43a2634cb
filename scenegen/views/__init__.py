"""Several photos of one scene: where their cameras stand, and which objects they share."""
