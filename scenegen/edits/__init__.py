"""What a person puts right in a scene: single edits, what a list of them comes to, and what they do to masks."""
