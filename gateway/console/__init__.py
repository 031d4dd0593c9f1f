"""Pages for the people whom an account is: its administrators."""
