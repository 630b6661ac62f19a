"""Where it is measured: hosts with servers and cables between them, and hosts with nothing but cables."""
