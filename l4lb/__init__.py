"""l4lb: a layer-4 NAT load balancer for Linux gateways."""
