"""Floor 7: the engine."""
