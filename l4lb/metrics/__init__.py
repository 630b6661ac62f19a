"""What the daemon knows as metrics for Prometheus: pure, but for the server that is asked."""
