"""Where accounts, grants, assumptions, staff, clients and keys are kept."""
