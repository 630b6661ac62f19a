"""What a thousand transfers live through: a flood of SYNs, and the death of the daemon."""
