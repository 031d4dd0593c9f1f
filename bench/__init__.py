"""Measures Locum beside the proxies people know: same machine, same backend, same load, in one run."""
