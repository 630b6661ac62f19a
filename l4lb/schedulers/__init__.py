"""One policy a file: weights in, a table or costs out (see l4lb.model). Pure."""
