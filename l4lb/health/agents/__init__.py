"""Asking the agents of backends, and what is believed of their answers."""
