"""Pages for people who decide or watch: an account's administrators, the vendor's security team."""
