"""The page of an account's administrators, on the account's own host."""
