"""Our own pages: templates, the style sheet, and how both are answered with."""
