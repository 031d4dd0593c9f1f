"""The helpdesk operator's own files; they run in the helpdesk's environment and import nothing of Locum."""
