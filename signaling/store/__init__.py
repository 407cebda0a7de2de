"""What outlives the control process: the database of lessons and the generated secrets."""
