"""Mixed traffic for a long time, and whether what l4lb counts of it comes back to nothing."""
