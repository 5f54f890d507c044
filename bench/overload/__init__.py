"""What happens to everybody else when some ask for more than there is."""
