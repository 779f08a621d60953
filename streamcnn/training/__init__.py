"""How the shipped nets were made, so that anybody can make them again. Needs the extra `keras`."""
