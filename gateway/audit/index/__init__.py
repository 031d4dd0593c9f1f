"""An index over the journal's files, to be thrown away at any time: it says where to look, never what is there."""
