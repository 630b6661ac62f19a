"""Links, addresses, routes and neighbours of the kernel, through pyroute2."""
