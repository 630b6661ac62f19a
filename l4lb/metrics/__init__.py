"""What is measured, as numbers that can be added up and asked. Pure."""
