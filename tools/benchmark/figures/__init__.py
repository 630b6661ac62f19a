"""What a figure is, how figures are compared, and how they look. Pure."""
