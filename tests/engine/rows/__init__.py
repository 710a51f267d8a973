"""One check for each row of the measured surface and of the list of defects, named by its id, as in README.md here."""
