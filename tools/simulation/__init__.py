"""The real schedulers against modelled servers and clients, event by event. See main.py."""
