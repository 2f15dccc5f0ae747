"""What a method is: a program that is validated, priced and shared."""
