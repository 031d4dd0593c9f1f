"""What an operator's monitoring sees: `GET /metrics` on the admin listener, and how several workers answer as one."""
