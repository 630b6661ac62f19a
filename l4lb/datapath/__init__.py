"""Where packets come from and go to: one interface (base.py), several engines."""
