"""The demonstration: a helpdesk that already exists, a vendor's identity provider, and their story."""
