"""A module beside the script."""

WORDS = "beside"
