"""A real helpdesk for the demonstration and the end-to-end tests: django-helpdesk in an environment of its own."""
