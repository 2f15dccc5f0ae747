"""The methods, one folder for each family of functions and one module for each method."""
