"""All that was measured, which targets that reaches, and how it is shown: tables, a picture, JSON."""
