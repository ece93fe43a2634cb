"""The scene: floor and gravity, background, placement, contact, relations."""
