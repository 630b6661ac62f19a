"""Is a backend fit for new connections? Rise and fall are pure; the checks are at the edge."""
