"""The stages of a scene: one module each, a pure typed function from records to a record."""
