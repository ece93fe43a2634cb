"""What scenegen tells people: progress, warnings and notes, suggestions for unknown names. None of it holds a secret."""
