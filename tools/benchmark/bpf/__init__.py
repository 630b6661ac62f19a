"""The benchmark's own BPF programs, and what runs them: the generator of packets, above all."""
