"""The forms in which records leave: each makes one line of one entry, whatever a stranger has put into it."""
