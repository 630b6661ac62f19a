"""l4lb as a service of a host: systemd's units and the first config, and how they come there and go."""
