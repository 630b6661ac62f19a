"""Who is measured: l4lb, the balancers beside it, and what no balancer can be faster than."""
