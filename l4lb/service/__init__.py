"""l4lb as a service of a host: systemd's units and the first config, how they come there and go, and what
a process tells systemd while it runs."""
