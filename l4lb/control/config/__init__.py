"""The config file: read and checked, compared, and changed without touching the rest."""
