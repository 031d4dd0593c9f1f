"""What a staff member's own machine says to a gateway that is somewhere else; nothing here reads a configuration."""
