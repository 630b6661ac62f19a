"""l4lb and its peers in turns: under the loads of real clients, and by single packets."""
