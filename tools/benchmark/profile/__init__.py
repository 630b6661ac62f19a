"""Where l4lb's packet process spends its time, on the site and under the loads of real clients."""
