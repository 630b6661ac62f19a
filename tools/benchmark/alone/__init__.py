"""l4lb alone: what a packet costs in its programs and in its Python."""
