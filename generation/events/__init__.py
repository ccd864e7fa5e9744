"""Live events: from where a generation moves, over a Redis stream per owner, to whoever listens."""
