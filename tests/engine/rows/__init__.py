"""One check for each row that README.md lists here, named by its id."""
