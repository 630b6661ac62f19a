"""The control plane: config, what should be against what is, the daemon and its API."""
