"""Objects as rigid bodies: what they collide with, how heavy they are, and whether a scene stays as it is under gravity."""
